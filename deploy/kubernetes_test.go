package deploy_test

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// object is what the tests read of a Kubernetes object.
type object struct {
	Kind     string
	Metadata struct {
		Name   string
		Labels map[string]string
	}
	Data map[string]string
	Spec yaml.Node
}

type podSpec struct {
	AutomountServiceAccountToken  *bool          `yaml:"automountServiceAccountToken"`
	EnableServiceLinks            *bool          `yaml:"enableServiceLinks"`
	TerminationGracePeriodSeconds int            `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               map[string]any `yaml:"securityContext"`
	Containers                    []container
	Volumes                       []struct {
		Name   string
		Secret struct {
			DefaultMode int `yaml:"defaultMode"`
		}
	}
}

type container struct {
	Image           string
	Ports           []struct{ Name, ContainerPort any }
	Env             []struct{ Name, Value string }
	LivenessProbe   probe          `yaml:"livenessProbe"`
	ReadinessProbe  probe          `yaml:"readinessProbe"`
	StartupProbe    probe          `yaml:"startupProbe"`
	SecurityContext map[string]any `yaml:"securityContext"`
	VolumeMounts    []struct {
		Name, MountPath, SubPath string
		ReadOnly                 bool `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

type (
	probe struct {
		HTTPGet get `yaml:"httpGet"`
	}
	get struct {
		Path string
		Port any
	}
)

func (c container) env() map[string]string {
	all := map[string]string{}
	for _, e := range c.Env {
		all[e.Name] = e.Value
	}
	return all
}

// kustomize is run as a Go module, because Debian's kubectl is too old for these files.
const kustomize = "sigs.k8s.io/kustomize/kustomize/v5@v5.8.0"

var rendered = map[string]map[string][]object{}

// render is the kustomization as it would be applied, by kind.
func render(t *testing.T, folder string) map[string][]object {
	t.Helper()
	if rendered[folder] != nil {
		return rendered[folder]
	}
	var downloads bytes.Buffer // what go prints about them, the first time
	cmd := exec.CommandContext(t.Context(), tool(t, "go"), "run", kustomize, "build", folder)
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod")
	cmd.Stderr = &downloads
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &downloads)
	kinds := map[string][]object{}
	for _, o := range documents[object](t, string(out)) {
		kinds[o.Kind] = append(kinds[o.Kind], o)
	}
	rendered[folder] = kinds
	return kinds
}

func decode[T any](t *testing.T, node yaml.Node) (v T) {
	t.Helper()
	require.NoError(t, node.Decode(&v))
	return v
}

func pod(t *testing.T, kinds map[string][]object) podSpec {
	t.Helper()
	require.Len(t, kinds["Deployment"], 1)
	return decode[struct{ Template struct{ Spec podSpec } }](t, kinds["Deployment"][0].Spec).Template.Spec
}

func TestTheKustomizationIsWhole(t *testing.T) {
	base := render(t, "kubernetes/base")
	assert.Equal(t, []string{
		"ConfigMap", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount",
	}, slices.Sorted(maps.Keys(base)))
	overlay := render(t, "kubernetes/overlays/servicemonitor")
	assert.Len(t, overlay["ServiceMonitor"], 1)
	assert.Len(t, overlay["Service"], 2)
	for kind, objects := range overlay {
		for _, o := range objects {
			if kind != "ConfigMap" {
				assert.Equal(t, "tokenvend", o.Metadata.Labels["app.kubernetes.io/name"], kind)
			}
		}
	}
}

func TestThePodMayDoNothingThatItNeedNot(t *testing.T) {
	p := pod(t, render(t, "kubernetes/base"))
	require.Len(t, p.Containers, 1)
	c := p.Containers[0]
	require.NotNil(t, p.AutomountServiceAccountToken)
	assert.False(t, *p.AutomountServiceAccountToken)
	require.NotNil(t, p.EnableServiceLinks)
	assert.False(t, *p.EnableServiceLinks)
	assert.Equal(t, map[string]any{
		"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
		"seccompProfile": map[string]any{"type": "RuntimeDefault"},
	}, p.SecurityContext)
	assert.Equal(t, map[string]any{
		"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": map[string]any{"drop": []any{"ALL"}},
	}, c.SecurityContext)
	for _, v := range p.Volumes {
		assert.Equal(t, 0o440, v.Secret.DefaultMode, v.Name)
	}
	for _, m := range c.VolumeMounts {
		assert.True(t, m.ReadOnly, m.Name)
		assert.Empty(t, m.SubPath, "a secret mounted by subPath is never renewed")
	}
	for name := range c.env() {
		assert.NotContains(t, []string{"SETHEALTH_KEY", "SETHEALTH_SECRET", "JWT_SECRET"}, name, "a secret by value")
	}
}

func TestAnOverlayLeavesTheIdsToThePlatform(t *testing.T) {
	p := pod(t, render(t, "kubernetes/overlays/openshift"))
	assert.Equal(t, map[string]any{
		"runAsNonRoot": true, "seccompProfile": map[string]any{"type": "RuntimeDefault"},
	}, p.SecurityContext)
	assert.Equal(t, pod(t, render(t, "kubernetes/base")).Containers, p.Containers)
}

func TestThePodFitsTheProgramItRuns(t *testing.T) {
	kinds := render(t, "kubernetes/base")
	p := pod(t, kinds)
	env := p.Containers[0].env()
	require.Len(t, kinds["ConfigMap"], 1)
	maps.Copy(env, kinds["ConfigMap"][0].Data)
	accepted(t, env)
	assert.Less(t, max(duration(t, env, "SHUTDOWN_DELAY"), longDelay)+duration(t, env, "SHUTDOWN_TIMEOUT"),
		time.Duration(p.TerminationGracePeriodSeconds)*time.Second)
	assert.Equal(t, ":8080", value(t, env, "LISTEN_ADDR"))
	assert.Equal(t, ":8081", value(t, env, "ADMIN_ADDR"))
	assert.Equal(t, probe{HTTPGet: get{"/healthz", "http"}}, p.Containers[0].LivenessProbe, "an outage elsewhere must not restart it")
	assert.Equal(t, probe{HTTPGet: get{"/readyz", "http"}}, p.Containers[0].ReadinessProbe)
}

func TestOnlyPrometheusReachesTheAdminListenerAndNamesAreResolved(t *testing.T) {
	type port struct {
		Port     any
		Protocol string
	}
	type policy struct {
		PolicyTypes []string `yaml:"policyTypes"`
		Ingress     []struct {
			From  []map[string]any
			Ports []port
		}
		Egress []struct {
			To []struct {
				NamespaceSelector struct {
					MatchExpressions []struct{ Values []string } `yaml:"matchExpressions"`
				} `yaml:"namespaceSelector"`
			}
			Ports []port
		}
	}
	p := decode[policy](t, render(t, "kubernetes/base")["NetworkPolicy"][0].Spec)
	assert.ElementsMatch(t, []string{"Ingress", "Egress"}, p.PolicyTypes)
	guarded := false
	for _, rule := range p.Ingress {
		require.NotEmpty(t, rule.Ports, "a rule without ports opens all of them")
		for _, port := range rule.Ports {
			if port.Port == "admin" {
				guarded = true
				assert.NotEmpty(t, rule.From)
			}
		}
	}
	assert.True(t, guarded)
	dns := p.Egress[0] // of Kubernetes and of OpenShift
	assert.Equal(t, []string{"kube-system", "openshift-dns"}, dns.To[0].NamespaceSelector.MatchExpressions[0].Values)
	assert.ElementsMatch(t, []port{{53, "UDP"}, {53, "TCP"}, {5353, "UDP"}, {5353, "TCP"}}, dns.Ports)
}

func TestTheObjectsAroundThePodFitIt(t *testing.T) {
	kinds := render(t, "kubernetes/overlays/servicemonitor")
	type deployment struct {
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     podSpec
		}
	}
	d := decode[deployment](t, kinds["Deployment"][0].Spec).Template
	ports := []any{}
	for _, p := range d.Spec.Containers[0].Ports {
		ports = append(ports, p.Name)
	}
	type service struct {
		Selector map[string]string
		Ports    []struct {
			TargetPort any `yaml:"targetPort"`
		}
	}
	for _, o := range kinds["Service"] {
		s := decode[service](t, o.Spec)
		assert.Subset(t, d.Metadata.Labels, s.Selector, o.Metadata.Name)
		require.Len(t, s.Ports, 1)
		assert.Contains(t, ports, s.Ports[0].TargetPort, o.Metadata.Name)
	}
	type selecting struct {
		Selector struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		}
		MinReplicas    int `yaml:"minReplicas"`
		MaxUnavailable int `yaml:"maxUnavailable"`
	}
	budget := decode[selecting](t, kinds["PodDisruptionBudget"][0].Spec)
	assert.Equal(t, d.Metadata.Labels, budget.Selector.MatchLabels)
	scaler := decode[selecting](t, kinds["HorizontalPodAutoscaler"][0].Spec)
	assert.Less(t, budget.MaxUnavailable, scaler.MinReplicas, "an eviction leaves one that serves")
}

func TestTheProgramAcceptsTheEnvironmentOfCloudRun(t *testing.T) {
	type service struct {
		Spec struct {
			Template struct {
				Spec struct {
					TimeoutSeconds int `yaml:"timeoutSeconds"`
					Containers     []container
				}
			}
		}
	}
	s := documents[service](t, read(t, "cloudrun/service.yaml"))[0].Spec.Template.Spec
	require.Len(t, s.Containers, 1)
	env := s.Containers[0].env()
	port := 8080
	env["PORT"] = strconv.Itoa(port) // as Cloud Run sets it
	accepted(t, env)
	assert.Less(t, duration(t, env, "SHUTDOWN_DELAY")+duration(t, env, "SHUTDOWN_TIMEOUT"), 10*time.Second, "Cloud Run kills after 10 s")
	assert.Less(t, duration(t, env, "SETHEALTH_TIMEOUT")+duration(t, env, "INTROSPECTION_TIMEOUT"), time.Duration(s.TimeoutSeconds)*time.Second)
	assert.Equal(t, "/readyz", s.Containers[0].StartupProbe.HTTPGet.Path)
	assert.Equal(t, port, s.Containers[0].StartupProbe.HTTPGet.Port)
	assert.Equal(t, "/healthz", s.Containers[0].LivenessProbe.HTTPGet.Path)
}
