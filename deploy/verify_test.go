package deploy_test

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
)

const repository = "sethealth/tokenvend"

type step struct {
	ID, Name, Uses, Run string
	With, Env           map[string]string
}

// pretendRelease runs steps of the release workflow with testdata/stub.sh in place of the programs that publish, sign
// and attest. The stub records in world what was published.
type pretendRelease struct {
	t           *testing.T
	dir, world  string
	environment map[string]string
	expressions map[string]string // values of ${{ }}
}

func newPretendRelease(t *testing.T, globals map[string]string) *pretendRelease {
	t.Helper()
	dir, world, stubs := t.TempDir(), t.TempDir(), t.TempDir()
	for _, name := range []string{"README.md", "Makefile", "Dockerfile", "deploy/release.sh", "client/package.json"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(dir+"/"+name), 0o700))
		write(t, dir+"/"+name, regexp.MustCompile(`"version": ".*"`).ReplaceAllString(read(t, "../"+name), `"version": "`+version+`"`))
	}
	require.NoError(t, os.Chmod(dir+"/deploy/release.sh", 0o700))
	write(t, dir+"/CHANGELOG.md", "## "+version+"\n\nThe first one.\n")
	stub, err := filepath.Abs("testdata/stub.sh")
	require.NoError(t, err)
	for _, name := range []string{"make", "go", "git", "npm", "cosign", "gh", "curl"} {
		require.NoError(t, os.Symlink(stub, stubs+"/"+name))
	}
	environment := map[string]string{
		"PATH": stubs + ":" + os.Getenv("PATH"), "HOME": dir, "WORLD": world, "REAL_MAKE": testkit.Program(t, "make"), "VERSION": version,
		"GITHUB_REF_NAME": "v" + version, "GITHUB_REPOSITORY": repository, "GITHUB_SERVER_URL": "https://github.com", "GITHUB_SHA": commit,
		// The identity of a workflow that a tag has started.
		"IDENTITY": "https://github.com/" + repository + "/.github/workflows/release.yml@refs/tags/v" + version,
		"ISSUER":   "https://token.actions.githubusercontent.com",
	}
	expressions := map[string]string{"needs.build.outputs.version": version}
	for name, value := range globals {
		environment[name], expressions["env."+name] = value, value
	}
	return &pretendRelease{t, dir, world, environment, expressions}
}

func (r *pretendRelease) expand(text string) string {
	return regexp.MustCompile(`\$\{\{ *(.*?) *\}\}`).ReplaceAllStringFunc(text, func(found string) string {
		return r.expressions[strings.TrimSpace(strings.Trim(found, "${} "))]
	})
}

func (r *pretendRelease) note(file, line string) {
	f, err := os.OpenFile(r.world+"/"+file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(r.t, err)
	defer f.Close()
	_, err = fmt.Fprintln(f, line)
	require.NoError(r.t, err)
}

func (r *pretendRelease) do(s step) {
	r.t.Helper()
	action, _, _ := strings.Cut(s.Uses, "@")
	switch {
	case s.Run != "":
		r.run(s)
	case action == "docker/build-push-action":
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s.ID)))
		r.expressions["steps."+s.ID+".outputs.digest"] = digest
		for _, tag := range strings.Fields(r.expand(s.With["tags"])) {
			r.note("registry", tag+" "+digest)
		}
	case action == "actions/attest" && s.With["subject-checksums"] != "":
		for line := range strings.Lines(read(r.t, r.dir+"/"+s.With["subject-checksums"])) {
			r.note("attested", repository+" "+strings.Fields(line)[0])
		}
	case action == "actions/attest":
		kind := "provenance"
		if s.With["sbom-path"] != "" {
			kind = "https://cyclonedx.org/bom"
		}
		r.note("attested", repository+" "+r.expand(s.With["subject-name"]+"@"+s.With["subject-digest"])+" "+kind)
	}
}

func (r *pretendRelease) run(s step) {
	r.t.Helper()
	outputs := r.t.TempDir() + "/outputs"
	environment := maps.Clone(r.environment)
	environment["GITHUB_OUTPUT"] = outputs
	for name, value := range s.Env {
		environment[name] = r.expand(value)
	}
	environment["TAG"] = "latest" // of the npm package, from an expression that r.expand cannot evaluate
	cmd := exec.CommandContext(r.t.Context(), testkit.Program(r.t, "bash"), "-euo", "pipefail", "-c", r.expand(s.Run))
	cmd.Dir = r.dir
	for name, value := range environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	require.NoError(r.t, err, "%s:\n%s", s.Run, out)
	if s.ID != "" {
		text := read(r.t, outputs)
		for _, found := range regexp.MustCompile(`(?m)^(\w+)=(.*)$|^(\w+)<<END\n((?:.*\n)*?)END$`).FindAllStringSubmatch(text, -1) {
			r.expressions["steps."+s.ID+".outputs."+found[1]+found[3]] = found[2] + found[4]
		}
	}
}

func TestWhatTheReadmeVerifiesIsWhatAReleasePublishes(t *testing.T) {
	testkit.Program(t, "sha256sum")
	testkit.Program(t, "jq")
	type workflow struct {
		Env  map[string]string
		Jobs map[string]struct{ Steps []step }
	}
	file := documents[workflow](t, read(t, "../.github/workflows/release.yml"))[0]
	release := newPretendRelease(t, file.Env)
	for _, job := range []string{"build", "sign", "image", "npm", "publish"} {
		require.NotEmpty(t, file.Jobs[job].Steps, job)
		for _, s := range file.Jobs[job].Steps {
			release.do(s)
		}
	}
	verified := false
	for _, s := range file.Jobs["verify"].Steps {
		if strings.HasPrefix(s.Name, "The README's own commands") {
			release.run(s)
			verified = true
		}
	}
	require.True(t, verified, "the last job runs the README's block")
	pages, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	registry := read(t, release.world+"/registry")
	for _, page := range append(pages, "../README.md") {
		for _, image := range regexp.MustCompile(`ghcr\.io/[\w/-]+:[\w.]+`).FindAllString(read(t, page), -1) {
			assert.Contains(t, registry, image+" ", page)
		}
	}
}
