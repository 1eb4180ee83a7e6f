package app

import (
	"cmp"
	"errors"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"

	"github.com/sethealth/tokenvend/internal/api"
	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/ratelimit"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/setting"
	"github.com/sethealth/tokenvend/internal/telemetry"
	"github.com/sethealth/tokenvend/internal/tokencache"
)

// Config is the program's configuration. Each package owns its part and the rules for it. `tokenvend help` and
// docs/configuration.md are generated from the struct tags; the tag "shown" describes a default that depends on other
// variables. [LoadConfig] fills all of it.
type Config struct {
	Sethealth sethealth.Config
	Sessions  auth.Config
	Pages     api.Config
	Cache     tokencache.Config
	Limit     ratelimit.Config
	Server    ServerConfig
	Log       telemetry.Config
}

// ServerConfig configures the listeners and the drain.
type ServerConfig struct {
	ListenAddr      string        `envconfig:"LISTEN_ADDR" group:"Listeners" shown:":8080" desc:"where to listen; PORT is honoured where this is not set"`
	Port            string        `envconfig:"PORT" group:"Listeners" desc:"the port to listen on, as some platforms set it"`
	AdminAddr       string        `envconfig:"ADMIN_ADDR" group:"Listeners" default:"127.0.0.1:8081" desc:"metrics and detailed health; off for none"`
	TLSCertFile     string        `envconfig:"TLS_CERT_FILE" group:"Listeners" desc:"PEM certificate chain, to serve TLS; a renewed pair is taken up without a restart"`
	TLSKeyFile      string        `envconfig:"TLS_KEY_FILE" group:"Listeners" desc:"PEM key of that certificate"`
	DebugPprof      bool          `envconfig:"DEBUG_PPROF" group:"Listeners" default:"false" desc:"serve /debug/pprof on the admin listener"`
	ShutdownDelay   time.Duration `envconfig:"SHUTDOWN_DELAY" group:"Listeners" default:"5s" desc:"how long /readyz says 503 before the listener closes"`
	ShutdownTimeout time.Duration `envconfig:"SHUTDOWN_TIMEOUT" group:"Listeners" default:"20s" desc:"what requests in flight may still take after that"`

	certificate *certificate // nil without TLS; made by validate
}

// LoadConfig reads the environment. Its error holds every fault, as [setting.Each] lists them; the Config then holds
// all other values.
func LoadConfig() (*Config, error) {
	c := &Config{}
	var problems setting.Problems
	for _, v := range variables(reflect.ValueOf(c).Elem()) {
		v.read(&problems)
	}
	for _, err := range []error{
		c.Sethealth.Validate(), c.Sessions.Validate(), c.Pages.Validate(c.Sessions.InsecureHTTPHosts),
		c.Cache.Validate(c.Sethealth.TTL), c.Server.validate(), c.Log.Validate(), checkProxies(),
	} {
		for _, problem := range setting.Each(err) {
			if !problems.Has(problem.Variable + fileSuffix) {
				problems.Add(problem.Variable, "%s", problem.Fault)
			}
		}
	}
	return c, problems.Err()
}

const fileSuffix = "_FILE"

// Variable is one environment variable.
type Variable struct {
	Name, Group, Default, Meaning string
	HasFile                       bool // NAME_FILE may name a file that holds the value

	field reflect.StructField
	value reflect.Value
}

// Names returns the name of the variable and, if there is one, of its _FILE variant.
func (v Variable) Names() []string {
	if v.HasFile {
		return []string{v.Name, v.Name + fileSuffix}
	}
	return []string{v.Name}
}

// Variables lists all variables by group, both in the order of Config.
func Variables() []Variable {
	all := variables(reflect.ValueOf(&Config{}).Elem())
	place := func(v Variable) int {
		return slices.IndexFunc(all, func(o Variable) bool { return o.Group == v.Group })
	}
	return slices.SortedStableFunc(slices.Values(all), func(a, b Variable) int { return place(a) - place(b) })
}

// variables lists the variables of a struct and of the structs within it, in their order.
func variables(v reflect.Value) (all []Variable) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if name, ok := f.Tag.Lookup("envconfig"); ok {
			all = append(all, Variable{
				Name: name, Group: f.Tag.Get("group"), Default: cmp.Or(f.Tag.Get("shown"), f.Tag.Get("default")), Meaning: f.Tag.Get("desc"),
				HasFile: f.Type == reflect.TypeFor[secret.Source](), field: f, value: v.Field(i),
			})
		} else if f.IsExported() && f.Type.Kind() == reflect.Struct {
			all = append(all, variables(v.Field(i))...)
		}
	}
	return all
}

// read sets the variable's field from the environment. envconfig reports only the first fault and prints values in
// its errors, so it reads one variable at a time and its errors are never shown.
func (v Variable) read(problems *setting.Problems) {
	value := os.Getenv(v.Name)
	switch trimmed := strings.TrimSpace(value); {
	case trimmed == "":
		_ = os.Unsetenv(v.Name) // envconfig would not use the default for a variable that is set but empty
	case trimmed != value && v.HasFile && !setting.IsPEM(value):
		problems.Add(v.Name, "must not begin or end with white space or a newline")
		return
	case trimmed != value && !v.HasFile:
		value = trimmed
		_ = os.Setenv(v.Name, trimmed)
	}
	if err := setting.Fault(value); err != nil {
		problems.Add(v.Name, "%s", err)
		return
	}
	one := reflect.New(reflect.StructOf([]reflect.StructField{v.field}))
	if envconfig.Process("", one.Interface()) != nil {
		problems.Add(v.Name, "must be %s", mustBe(v.value))
		return
	}
	v.value.Set(one.Elem().Field(0))
	if source, isSecret := v.value.Addr().Interface().(*secret.Source); isSecret {
		v.readSource(source, problems)
	}
}

// readSource sets a secret's name, or opens the file that NAME_FILE names.
func (v Variable) readSource(source *secret.Source, problems *setting.Problems) {
	file := v.Name + fileSuffix
	switch path := os.Getenv(file); {
	case path != "" && source.IsSet():
		problems.Add(v.Name, "and %s are both set; set only one", file)
	case source.IsSet():
		*source = secret.Static(v.Name, source.Get())
	case path != "":
		*source = openFile(problems, file, path)
	}
}

// openFile reads the file that a variable names, if it is set.
func openFile(p *setting.Problems, variable, path string) secret.Source {
	if path == "" {
		return secret.Source{}
	}
	source, err := secret.FromFile(variable, path)
	if err != nil {
		p.Add(variable, "must name a file that can be used: %s", errors.Unwrap(err))
	}
	return source
}

// mustBe says what a value of the field's type must look like.
func mustBe(v reflect.Value) string {
	switch of := v.Interface().(type) {
	case interface{ MustBe() string }:
		return of.MustBe()
	case time.Duration:
		return "a duration such as 500ms, 10s or 1h30m"
	case bool:
		return "true or false"
	default:
		return "a whole number"
	}
}

func (c *ServerConfig) validate() error {
	var p setting.Problems
	port := cmp.Or(c.Port, "8080")
	if !setting.IsPort(port) {
		p.Add("PORT", "must be a port, from 1 to 65535")
		port = "8080"
	}
	c.ListenAddr = cmp.Or(c.ListenAddr, ":"+port)
	checkAddress(&p, "LISTEN_ADDR", c.ListenAddr)
	if c.AdminAddr != "off" {
		checkAddress(&p, "ADMIN_ADDR", c.AdminAddr)
	}
	switch {
	case c.TLSCertFile == "" && c.TLSKeyFile != "":
		p.Required("TLS_CERT_FILE", "the certificate of TLS_KEY_FILE")
	case c.TLSKeyFile == "" && c.TLSCertFile != "":
		p.Required("TLS_KEY_FILE", "the key of TLS_CERT_FILE")
	}
	if c.TLSCertFile != "" || c.TLSKeyFile != "" {
		c.certificate = newCertificate(&p, c.TLSCertFile, c.TLSKeyFile)
	}
	p.Between("SHUTDOWN_DELAY", c.ShutdownDelay, 0, 10*time.Minute)
	p.Between("SHUTDOWN_TIMEOUT", c.ShutdownTimeout, 0, 10*time.Minute)
	return p.Err()
}

func checkAddress(p *setting.Problems, variable, value string) {
	if _, port, err := net.SplitHostPort(value); err == nil {
		if _, err = strconv.ParseUint(port, 10, 16); err == nil {
			return
		}
	}
	p.Add(variable, "must be an address such as :8080 or 127.0.0.1:8080")
}

// checkProxies finds a proxy URL that net/http would silently ignore, or that would make every request fail.
func checkProxies() error {
	var p setting.Problems
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		value := os.Getenv(name)
		if value == "" {
			continue
		}
		short := !strings.Contains(value, "://") // a host, with or without a port
		if short {
			value = "http://" + value
		}
		u, err := url.Parse(value)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) ||
			!setting.IsPort(u.Port()) || short && u.Port() == "" && !strings.Contains(u.Host, ".") {
			p.Add(name, "must be the URL of a proxy, such as http://proxy.example.com:3128")
		}
	}
	return p.Err()
}
