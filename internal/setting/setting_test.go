package setting_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/setting"
)

func TestAProbableMistakeIsDescribedWithoutTheValue(t *testing.T) {
	for name, row := range map[string]struct{ value, fault string }{
		"plain":                    {"canary", ""},
		"spaces within":            {"canary and more", ""},
		"a quote at one end":       {`"canary`, ""},
		"a lone quote":             {`"`, ""},
		"different quotes":         {`"canary'`, ""},
		"PEM over several lines":   {"-----BEGIN PUBLIC KEY-----\r\ncanary\n-----END PUBLIC KEY-----\n", ""},
		"double quotes":            {`"canary"`, "quotes"},
		"single quotes":            {`'canary'`, "quotes"},
		"quotes around nothing":    {`""`, "quotes"},
		"a byte order mark":        {"\ufeffcanary", "byte order mark"},
		"a UTF-16 byte order mark": {"\xff\xfec\x00", "byte order mark"},
		"UTF-16 without a mark":    {"c\x00a\x00", "NUL"},
		"a tab":                    {"can\tary", "control characters"},
		"two lines":                {"can\nary", "control characters"},
		"a C1 control character":   {"can\u0085ary", "control characters"},
		"invalid UTF-8":            {"canary\xf0\x9f", "not UTF-8"},
		"NUL within PEM":           {"-----BEGIN PUBLIC KEY-----\n\x00", "NUL"},
	} {
		t.Run(name, func(t *testing.T) {
			err := setting.Fault(row.value)
			if row.fault == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, row.fault)
			assert.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestProblemsNameEachVariableOnce(t *testing.T) {
	var p setting.Problems
	require.NoError(t, p.Err())
	p.Required("A", "for this")
	p.Add("A", "must be something else")
	p.OneOf("B", "c", "a", "b")
	p.OneOf("C", "a", "a", "b")
	p.Between("D", 3, 1, 2)
	p.Between("E", 2, 1, 2)
	require.EqualError(t, p.Err(), "A is required (for this)\nB must be a or b\nD must be from 1ns to 2ns")
	assert.Len(t, setting.Each(p.Err()), 3)
	assert.Empty(t, setting.Each(nil))
}

func TestListsAreTrimmedAndHaveNoEmptyItems(t *testing.T) {
	var l setting.List
	require.NoError(t, l.Decode(" a , b"))
	assert.Equal(t, setting.List{"a", "b"}, l)
	for _, value := range []string{"", "a,", ",a", "a,,b"} {
		require.Error(t, l.Decode(value), value)
	}
}

func TestPrefixesAreCIDRs(t *testing.T) {
	var p setting.Prefixes
	require.NoError(t, p.Decode("10.1.2.3/8, 2001:db8::/32,192.0.2.7/32"))
	assert.Equal(t, "[10.0.0.0/8 2001:db8::/32 192.0.2.7/32]", fmt.Sprint(p))
	for _, value := range []string{"10.0.0.1", "10.0.0.0/33", "::ffff:10.0.0.0/104", "hospital", "10.0.0.0/8,"} {
		require.Error(t, p.Decode(value), value)
	}
}

func TestSwitchesAreOnOrOff(t *testing.T) {
	var s setting.Switch
	require.NoError(t, s.Decode("on"))
	assert.True(t, bool(s))
	require.NoError(t, s.Decode("off"))
	assert.False(t, bool(s))
	require.Error(t, s.Decode("true"))
}

func TestPlainHTTPIsForLoopbackAndListedHostsOnly(t *testing.T) {
	for address, want := range map[string]bool{
		"https://id.example.com":             true,
		"https://id.example.com:8443/a?b=c":  true,
		"http://localhost:8080":              true,
		"http://127.0.0.9":                   true,
		"http://[::1]:8080/realms/hospital":  true,
		"http://keycloak:8080/realms/viewer": true,
		"http://Keycloak/realms/viewer":      true,
		"http://id.example.com":              false,
		"http://keycloak.evil.test":          false,
		"https://user@id.example.com":        false,
		"https://id.example.com/#fragment":   false,
		"ftp://id.example.com":               false,
		"id.example.com":                     false,
		"https://":                           false,
		"https://:443":                       false,
		"https://id.example.com:99999":       false,
		"":                                   false,
	} {
		err := setting.CheckURL(address, []string{"keycloak"})
		assert.Equal(t, want, err == nil, "%s: %v", address, err)
	}
	require.NoError(t, setting.CheckAnyURL("http://backend/session"))
	require.Error(t, setting.CheckAnyURL("http://user@backend/session"))
	assert.Equal(t, "https://id.example.com", setting.Host("https://user:canary@id.example.com/path?query"))
	assert.Equal(t, "an unusable address", setting.Host("\x00"))
}
