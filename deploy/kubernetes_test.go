package deploy_test

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
)

// object is a Kubernetes object or a part of one.
type object = map[string]any

// at returns the value at a dotted path, in which a number is an index.
func at[T any](t *testing.T, root any, path string) T {
	t.Helper()
	for step := range strings.SplitSeq(path, ".") {
		switch here := root.(type) {
		case object:
			root = here[step]
		case []any:
			n, err := strconv.Atoi(step)
			require.NoError(t, err, path)
			require.Less(t, n, len(here), path)
			root = here[n]
		}
	}
	found, ok := root.(T)
	require.True(t, ok, "%s is %v", path, root)
	return found
}

func environment(t *testing.T, container any) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, e := range at[[]any](t, container, "env") {
		value, _ := e.(object)["value"].(string)
		all[at[string](t, e, "name")] = value
	}
	return all
}

// kustomize runs as a Go module, as Debian's kubectl is too old for these files.
const kustomize = "sigs.k8s.io/kustomize/kustomize/v5@v5.8.0"

var rendered = map[string]map[string][]object{}

// render returns the objects that a kustomization applies, by kind.
func render(t *testing.T, folder string) map[string][]object {
	t.Helper()
	if rendered[folder] != nil {
		return rendered[folder]
	}
	var downloads bytes.Buffer // go prints them to standard error
	cmd := exec.CommandContext(t.Context(), testkit.Program(t, "go"), "run", kustomize, "build", folder)
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod")
	cmd.Stderr = &downloads
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &downloads)
	kinds := map[string][]object{}
	for _, o := range documents[object](t, string(out)) {
		kind := at[string](t, o, "kind")
		kinds[kind] = append(kinds[kind], o)
	}
	rendered[folder] = kinds
	return kinds
}

func pod(t *testing.T, folder string) object {
	t.Helper()
	kinds := render(t, folder)
	require.Len(t, kinds["Deployment"], 1)
	return at[object](t, kinds["Deployment"][0], "spec.template.spec")
}

func TestTheAdminListenerIsAServiceOnlyForTheServiceMonitor(t *testing.T) {
	assert.Len(t, render(t, "kubernetes/base")["Service"], 1)
	overlay := render(t, "kubernetes/overlays/servicemonitor")
	assert.Len(t, overlay["ServiceMonitor"], 1)
	assert.Len(t, overlay["Service"], 2)
}

func TestThePodHasNoNeedlessPrivileges(t *testing.T) {
	p := pod(t, "kubernetes/base")
	require.Len(t, p["containers"], 1)
	assert.Equal(t, false, p["automountServiceAccountToken"])
	assert.Equal(t, false, p["enableServiceLinks"])
	assert.Equal(t, object{
		"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532, "seccompProfile": object{"type": "RuntimeDefault"},
	}, p["securityContext"])
	assert.Equal(t, object{
		"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": object{"drop": []any{"ALL"}},
	}, at[object](t, p, "containers.0.securityContext"))
	for _, v := range at[[]any](t, p, "volumes") {
		assert.Equal(t, 0o440, at[int](t, v, "secret.defaultMode"), v)
	}
	for _, m := range at[[]any](t, p, "containers.0.volumeMounts") {
		assert.True(t, at[bool](t, m, "readOnly"), m)
		assert.NotContains(t, m, "subPath", "a secret mounted by subPath is never renewed")
	}
	for name := range environment(t, at[object](t, p, "containers.0")) {
		assert.NotContains(t, []string{"SETHEALTH_KEY", "SETHEALTH_SECRET", "JWT_SECRET"}, name, "a secret by value")
	}
}

func TestTheOpenShiftOverlayLeavesUserIDsToThePlatform(t *testing.T) {
	p := pod(t, "kubernetes/overlays/openshift")
	assert.Equal(t, object{"runAsNonRoot": true, "seccompProfile": object{"type": "RuntimeDefault"}}, p["securityContext"])
	assert.Equal(t, pod(t, "kubernetes/base")["containers"], p["containers"])
}

func TestThePodFitsTheProgram(t *testing.T) {
	p := pod(t, "kubernetes/base")
	env := environment(t, at[object](t, p, "containers.0"))
	for name, value := range at[object](t, render(t, "kubernetes/base")["ConfigMap"][0], "data") {
		env[name] = value.(string)
	}
	accepted(t, env)
	grace := time.Duration(at[int](t, p, "terminationGracePeriodSeconds")) * time.Second
	assert.Less(t, max(duration(t, env, "SHUTDOWN_DELAY"), longDelay)+duration(t, env, "SHUTDOWN_TIMEOUT"), grace)
	assert.Equal(t, ":8080", value(t, env, "LISTEN_ADDR"))
	assert.Equal(t, ":8081", value(t, env, "ADMIN_ADDR"))
	assert.Equal(t, object{"path": "/healthz", "port": "http"}, at[object](t, p, "containers.0.livenessProbe.httpGet"), "an outage elsewhere must not restart it")
	assert.Equal(t, object{"path": "/readyz", "port": "http"}, at[object](t, p, "containers.0.readinessProbe.httpGet"))
}

func TestOnlyPrometheusReachesTheAdminListenerAndDNSIsAllowed(t *testing.T) {
	policy := at[object](t, render(t, "kubernetes/base")["NetworkPolicy"][0], "spec")
	assert.ElementsMatch(t, []any{"Ingress", "Egress"}, policy["policyTypes"])
	guarded := false
	for _, rule := range at[[]any](t, policy, "ingress") {
		ports := at[[]any](t, rule, "ports") // a rule without ports opens all of them
		require.NotEmpty(t, ports)
		for _, port := range ports {
			if port.(object)["port"] == "admin" {
				guarded = true
				assert.NotEmpty(t, rule.(object)["from"])
			}
		}
	}
	assert.True(t, guarded)
	dns := at[object](t, policy, "egress.0") // of Kubernetes and of OpenShift
	assert.Equal(t, []any{"kube-system", "openshift-dns"}, at[[]any](t, dns, "to.0.namespaceSelector.matchExpressions.0.values"))
	assert.ElementsMatch(t, []any{
		object{"port": 53, "protocol": "UDP"},
		object{"port": 53, "protocol": "TCP"},
		object{"port": 5353, "protocol": "UDP"},
		object{"port": 5353, "protocol": "TCP"},
	}, dns["ports"])
}

func TestTheOtherObjectsFitThePod(t *testing.T) {
	kinds := render(t, "kubernetes/overlays/servicemonitor")
	template := at[object](t, kinds["Deployment"][0], "spec.template")
	labels := at[object](t, template, "metadata.labels")
	var ports []any
	for _, p := range at[[]any](t, template, "spec.containers.0.ports") {
		ports = append(ports, at[string](t, p, "name"))
	}
	for _, s := range kinds["Service"] {
		assert.Subset(t, labels, at[object](t, s, "spec.selector"))
		require.Len(t, at[[]any](t, s, "spec.ports"), 1)
		assert.Contains(t, ports, at[string](t, s, "spec.ports.0.targetPort"))
	}
	budget, scaler := kinds["PodDisruptionBudget"][0], kinds["HorizontalPodAutoscaler"][0]
	assert.Equal(t, labels, at[object](t, budget, "spec.selector.matchLabels"))
	assert.Less(t, at[int](t, budget, "spec.maxUnavailable"), at[int](t, scaler, "spec.minReplicas"), "an eviction leaves one that serves")
}

func TestTheProgramAcceptsTheEnvironmentOfCloudRun(t *testing.T) {
	spec := at[object](t, documents[object](t, read(t, "cloudrun/service.yaml"))[0], "spec.template.spec")
	require.Len(t, spec["containers"], 1)
	container := at[object](t, spec, "containers.0")
	env := environment(t, container)
	env["PORT"] = "8080" // as Cloud Run sets it
	accepted(t, env)
	assert.Less(t, duration(t, env, "SHUTDOWN_DELAY")+duration(t, env, "SHUTDOWN_TIMEOUT"), 10*time.Second, "Cloud Run kills after 10 s")
	assert.Less(t, duration(t, env, "SETHEALTH_TIMEOUT")+duration(t, env, "INTROSPECTION_TIMEOUT"), time.Duration(at[int](t, spec, "timeoutSeconds"))*time.Second)
	assert.Equal(t, object{"path": "/readyz", "port": 8080}, at[object](t, container, "startupProbe.httpGet"))
	assert.Equal(t, "/healthz", at[string](t, container, "livenessProbe.httpGet.path"))
}
