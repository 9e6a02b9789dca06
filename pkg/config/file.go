package config

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Parse reads settings in YAML, as of Flink's config.yaml: keys are written out (a.b.c: v) or nested, and both may be mixed. origin names the text, for messages;
// each setting has its line behind it. A list is joined with semicolons, as Flink writes lists. The error joins all problems.
func Parse(text []byte, origin string) ([]Setting, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		// "yaml: line 3: ..." becomes "config.yaml:3: ...".
		msg := strings.TrimPrefix(err.Error(), "yaml: ")
		if rest, ok := strings.CutPrefix(msg, "line "); ok {
			msg = rest
		} else {
			msg = " " + msg
		}
		return nil, fmt.Errorf("%s:%s", origin, msg)
	}
	if len(doc.Content) == 0 {
		return nil, nil // empty
	}
	p := document{origin: origin, lines: map[string]int{}}
	p.node("", doc.Content[0])
	return p.out, errors.Join(p.errs...)
}

// document walks a document.
type document struct {
	origin string
	out    []Setting
	lines  map[string]int // where a key was set
	errs   []error
}

func (p *document) fail(n *yaml.Node, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s:%d: %s", p.origin, n.Line, fmt.Sprintf(format, args...)))
}

// node adds what lies below a key, which is empty at the top.
func (p *document) node(key string, n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			name := strings.TrimSpace(k.Value)
			if k.Kind != yaml.ScalarNode || name == "" || k.Tag == "!!merge" {
				p.fail(k, "a key is no text")
				continue
			}
			if key != "" {
				name = key + "." + name
			}
			p.node(name, v)
		}
	case yaml.ScalarNode:
		if key == "" {
			p.fail(n, "want `key: value`, got %q", n.Value)
			return
		}
		p.set(key, n, n.Value)
	case yaml.SequenceNode:
		if key == "" {
			p.fail(n, "want `key: value`, got a list")
			return
		}
		var items []string
		for _, c := range n.Content {
			if c.Kind != yaml.ScalarNode {
				p.fail(c, "%s: want a list of values", key)
				return
			}
			items = append(items, c.Value)
		}
		p.set(key, n, strings.Join(items, ";"))
	default:
		p.fail(n, "aliases are not read")
	}
}

func (p *document) set(key string, n *yaml.Node, value string) {
	if n.Tag == "!!null" {
		return // `key:` alone sets nothing, as in Flink
	}
	if line := p.lines[key]; line != 0 {
		p.fail(n, "%s: is set in line %d already", key, line)
		return
	}
	p.lines[key] = n.Line
	p.out = append(p.out, Setting{Key: key, Value: value, Origin: fmt.Sprintf("%s:%d", p.origin, n.Line)})
}
