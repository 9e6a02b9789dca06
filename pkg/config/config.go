// Package config is the configuration of a process and of its jobs, under Flink's option names.
//
// Start with New, which reads settings such as "-D parallelism.default=4", and Get, which reads one typed value.
// Each of Flink's keys is acted on (a Key variable of keys.go), accepted with a warning, or refused (keys.txt);
// docs/config.md lists all of them.
//
// Its law: no setting is ignored in silence. A key that nobody knows, a value that does not fit and a setting that
// asks for what is not done are errors, all reported together.
package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Key is an option that is acted on: its name is Flink's, its type is T. Only this package makes them, so that the
// list of what is acted on is complete.
type Key[T any] struct {
	Name    string   // Flink's current name
	Old     []string // Flink's older names for it, accepted too, the newest first
	Default T        // when it is not set
	Flink   string   // Flink's default, where ours is another one; empty otherwise
	Doc     string   // one or two sentences for the reference page, with the unit

	parse func(string) (T, error) // its error says what was expected: "want ..."
}

// key is a Key of any type.
type key interface {
	names() (name string, old []string)
	check(value string) error
	defaults() (own any, flink, doc string)
}

func (k *Key[T]) names() (string, []string)       { return k.Name, k.Old }
func (k *Key[T]) check(value string) error        { _, err := k.parse(value); return err }
func (k *Key[T]) defaults() (any, string, string) { return k.Default, k.Flink, k.Doc }

// Setting is one key and its value as they were written.
type Setting struct {
	Key, Value string
	Origin     string // where it was written, for messages: "-D", "config.yaml:12" (file:line); may be empty
}

// ParseSetting reads the argument of -D, "key=value". As in Flink a key alone is set to "true".
func ParseSetting(arg string) (Setting, error) {
	k, v, found := strings.Cut(arg, "=")
	if k = strings.TrimSpace(k); k == "" {
		return Setting{}, fmt.Errorf("-D %q: want key=value", arg)
	}
	if !found {
		v = "true"
	}
	return Setting{Key: k, Value: strings.TrimSpace(v), Origin: "-D"}, nil
}

// Warning says that a setting was accepted but does not do what it says, or was overridden.
type Warning struct {
	Key, Value string // the value is masked when the key names a secret
	Reason     string // a sentence
}

// Config holds checked settings. It does not change after New, so it may be read by any goroutine. A nil *Config
// holds the defaults.
type Config struct {
	settings []Setting          // as given
	values   map[string]Setting // by current name
	warnings []Warning
}

// New checks the settings and returns them as a Config. A later setting overrides an earlier one of the same key;
// within one file, or within -D, the current name of a key overrides its older ones, as in Flink. The error joins all problems,
// one line each, with key, value and what was expected.
func New(settings ...Setting) (*Config, error) {
	c := &Config{settings: slices.Clone(settings), values: make(map[string]Setting, len(settings))}
	var errs []error
	for _, s := range settings {
		s.Key, s.Value = strings.TrimSpace(s.Key), strings.TrimSpace(s.Value)
		name, err := c.admit(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		old, set := c.values[name]
		if set && old.Key != s.Key && old.Value != s.Value {
			loser, winner := old, s
			if old.Key == name && source(old) == source(s) {
				loser, winner = s, old
			}
			c.warn(loser, fmt.Sprintf("It is overridden by %s, another name of the same key.", winner.Key))
			s = winner
		}
		c.values[name] = s
	}
	if len(errs) == 0 {
		errs = append(errs, c.checkTogether()...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}

// With returns a Config with further settings on top, such as those that a job makes for itself.
func (c *Config) With(settings ...Setting) (*Config, error) {
	if c == nil {
		return New(settings...)
	}
	return New(slices.Concat(c.settings, settings)...)
}

// admit checks one setting by itself and returns the current name of its key.
func (c *Config) admit(s Setting) (string, error) {
	if s.Key == "" {
		return "", fmt.Errorf("empty key%s", from(s))
	}
	if k := keyByName(s.Key); k != nil {
		name, _ := k.names()
		if err := k.check(s.Value); err != nil {
			return "", fmt.Errorf("%s: %q: %w%s", s.Key, shown(s), err, from(s))
		}
		if name != s.Key {
			c.warn(s, fmt.Sprintf("It is an older name of %s.", name))
		}
		return name, nil
	}
	r, ok := lookup(s.Key)
	switch {
	case !ok:
		if near := nearest(s.Key); near != "" {
			return "", fmt.Errorf("%s: unknown key; did you mean %s?%s", s.Key, near, from(s))
		}
		return "", fmt.Errorf("%s: unknown key, and none resembles it%s", s.Key, from(s))
	case r.does(s.Value):
	case r.refused && r.fine != "":
		return "", fmt.Errorf("%s: %q is refused, want %s: %s%s", s.Key, shown(s), strings.ReplaceAll(r.fine, "|", " or "), r.reason, from(s))
	case r.refused:
		return "", fmt.Errorf("%s: refused: %s%s", s.Key, r.reason, from(s))
	default:
		c.warn(s, r.reason)
	}
	return r.name, nil
}

// checkTogether finds settings that fit alone but not with each other.
func (c *Config) checkTogether() []error {
	var errs []error
	p, most := mustGet(c, Parallelism), mustGet(c, MaxParallelism)
	if most > 0 && p > most {
		errs = append(errs, fmt.Errorf("%s: %d exceeds %s, which is %d", Parallelism.Name, p, MaxParallelism.Name, most))
	}
	if i, t := mustGet(c, HeartbeatInterval), mustGet(c, HeartbeatTimeout); t <= i {
		errs = append(errs, fmt.Errorf("%s: %q: want more than %s, which is %q", HeartbeatTimeout.Name, FormatDuration(t), HeartbeatInterval.Name, FormatDuration(i)))
	}
	if i, m := mustGet(c, InitialBackoff), mustGet(c, MaxBackoff); i > m {
		errs = append(errs, fmt.Errorf("%s: %q: want at most %s, which is %q", InitialBackoff.Name, FormatDuration(i), MaxBackoff.Name, FormatDuration(m)))
	}
	if mustGet(c, InternalTLS) {
		for _, k := range []Key[string]{InternalCert, InternalKey, InternalCA} {
			if mustGet(c, k) == "" {
				errs = append(errs, fmt.Errorf("%s: is not set, but needed with %s", k.Name, InternalTLS.Name))
			}
		}
	}
	return errs
}

func (c *Config) warn(s Setting, reason string) {
	c.warnings = append(c.warnings, Warning{Key: s.Key, Value: shown(s), Reason: reason})
}

// Warnings returns what the user should be told once, at the start, in the order of the settings; after With those of
// the base come first.
func (c *Config) Warnings() []Warning {
	if c == nil {
		return nil
	}
	return slices.Clone(c.warnings)
}

// Settings returns what is set, by current name in alphabetical order, with secrets masked: fit to be shown.
func (c *Config) Settings() []Setting {
	if c == nil {
		return nil
	}
	out := make([]Setting, 0, len(c.values))
	for _, name := range slices.Sorted(maps.Keys(c.values)) {
		s := c.values[name]
		s.Value = shown(s)
		s.Key = name
		out = append(out, s)
	}
	return out
}

// Get returns the value of a key, or the key's default when it is not set. New has checked the values, so an error
// means that the key is not one of this package.
func Get[T any](c *Config, k Key[T]) (T, error) {
	v, set := c.value(k.Name)
	if !set {
		return k.Default, nil
	}
	t, err := k.parse(v.Value)
	if err != nil {
		return k.Default, fmt.Errorf("%s: %q: %w%s", v.Key, shown(v), err, from(v))
	}
	return t, nil
}

// IsSet reports whether a key was set, as against having its default.
func IsSet[T any](c *Config, k Key[T]) bool {
	_, set := c.value(k.Name)
	return set
}

// Origin returns where a key was set (Setting.Origin); empty when it was not.
func Origin[T any](c *Config, k Key[T]) string {
	v, _ := c.value(k.Name)
	return v.Origin
}

func (c *Config) value(name string) (Setting, bool) {
	if c == nil {
		return Setting{}, false
	}
	s, ok := c.values[name]
	return s, ok
}

// mustGet is Get for the keys of this package, whose values New has checked.
func mustGet[T any](c *Config, k Key[T]) T {
	v, err := Get(c, k)
	if err != nil {
		panic("config: value was not checked: " + err.Error())
	}
	return v
}

func from(s Setting) string {
	if s.Origin == "" {
		return ""
	}
	return " (" + s.Origin + ")"
}

// source is the Origin without the line.
func source(s Setting) string {
	file, _, _ := strings.Cut(s.Origin, ":")
	return file
}

// secrets are the parts of a key's name that make its value a secret, Flink's list.
var secrets = [...]string{
	"password", "secret", "fs.azure.account.key", "apikey", "api-key", "auth-params", "service-key", "token",
	"basic-auth", "jaas.config", "http-headers", "access-key", "access.key", "accesskey", "credential", "private-key", "privatekey", "authorization", "cookie",
}

// Redact replaces what is before the @ of a URL in a text: a user, and often a password.
func Redact(text string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(text, "://")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		b.WriteString("://")
		end := strings.IndexAny(after, "/?# \t\n\"'")
		if end < 0 {
			end = len(after)
		}
		if at := strings.LastIndexByte(after[:end], '@'); at >= 0 {
			b.WriteString("******")
			after = after[at:]
		}
		text = after
	}
}

// shown is the value of a setting, or asterisks when its key names a secret.
func shown(s Setting) string {
	name := strings.ToLower(s.Key)
	for _, part := range secrets {
		if strings.Contains(name, part) {
			return "******"
		}
	}
	return Redact(s.Value)
}
