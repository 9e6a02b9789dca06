package deploy

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// port finds a port of a pod by its name or number.
func (w *workload) port(p intstr.IntOrString) (corev1.ContainerPort, bool) {
	for _, c := range w.pod.Spec.Containers {
		for _, have := range c.Ports {
			if p.Type == intstr.String && have.Name == p.StrVal || p.Type == intstr.Int && have.ContainerPort == p.IntVal {
				return have, true
			}
		}
	}
	return corev1.ContainerPort{}, false
}

// TestPorts: each port that a service, a probe or a policy names is one of the pods that it means, and each port of a pod of ours is where its arguments say that it listens.
func TestPorts(t *testing.T) {
	each(t, func(t *testing.T, o *overlay) {
		for _, object := range o.objects {
			switch v := object.(type) {
			case *corev1.Service:
				found := o.matching(t, &metav1.LabelSelector{MatchLabels: v.Spec.Selector})
				if len(found) != 1 {
					t.Errorf("service %s: it selects the pods of %d workloads", v.Name, len(found))
				}
				for _, w := range found {
					for _, p := range v.Spec.Ports {
						if _, ok := w.port(p.TargetPort); !ok {
							t.Errorf("service %s: %s has no port %s", v.Name, w.name, p.TargetPort.String())
						}
					}
				}
			case *networkingv1.NetworkPolicy:
				o.checkPolicy(t, v)
			}
		}
		for _, w := range o.workloads {
			for _, c := range w.pod.Spec.Containers {
				for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
					if p == nil || p.HTTPGet == nil {
						continue
					}
					if _, ok := w.port(p.HTTPGet.Port); !ok {
						t.Errorf("%s: it has no port %s, which a probe asks", w.name, p.HTTPGet.Port.String())
					}
				}
				if programs[imageName(c.Image)] == "" {
					continue
				}
				for _, p := range c.Ports {
					if !slices.Contains(listens(t, c.Args), p.ContainerPort) {
						t.Errorf("%s: nothing listens on its port %s, %d", w.name, p.Name, p.ContainerPort)
					}
				}
			}
		}
	})
}

// listens returns the ports of the --*-address arguments.
func listens(t *testing.T, args []string) (ports []int32) {
	t.Helper()
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		if !strings.HasSuffix(name, "-address") {
			continue
		}
		_, p, err := net.SplitHostPort(value)
		if err != nil {
			t.Errorf("%s: %v", a, err)
			continue
		}
		n, err := strconv.ParseInt(p, 10, 32)
		if err != nil {
			t.Errorf("%s: %v", a, err)
		}
		ports = append(ports, int32(n))
	}
	return ports
}

// checkPolicy checks that a policy selects pods, lets in from pods that are there or are known clients, and names ports that are there.
func (o *overlay) checkPolicy(t *testing.T, v *networkingv1.NetworkPolicy) {
	t.Helper()
	selected := o.matching(t, &v.Spec.PodSelector)
	if len(selected) == 0 {
		t.Errorf("policy %s: it selects no pod", v.Name)
	}
	peers := func(ps []networkingv1.NetworkPolicyPeer) (found []workload) {
		for _, p := range ps {
			if p.PodSelector == nil || p.NamespaceSelector != nil {
				continue
			}
			of := o.matching(t, p.PodSelector)
			selector, err := metav1.LabelSelectorAsSelector(p.PodSelector)
			if err != nil {
				t.Fatal(err)
			}
			if len(of) == 0 && !slices.ContainsFunc(clients, func(c labels.Set) bool { return selector.Matches(c) }) {
				t.Errorf("policy %s: there is no pod %s", v.Name, selector)
			}
			found = append(found, of...)
		}
		return found
	}
	has := func(in []workload, p networkingv1.NetworkPolicyPort) bool {
		return slices.ContainsFunc(in, func(w workload) bool { _, ok := w.port(*p.Port); return ok })
	}
	for _, rule := range v.Spec.Ingress {
		peers(rule.From)
		for _, p := range rule.Ports {
			if !has(selected, p) {
				t.Errorf("policy %s: no pod that it selects has the port %s", v.Name, p.Port)
			}
		}
	}
	for _, rule := range v.Spec.Egress {
		to := peers(rule.To)
		for _, p := range rule.Ports {
			if len(to) > 0 && !has(to, p) {
				t.Errorf("policy %s: no pod that it leads to has the port %s", v.Name, p.Port)
			}
		}
	}
}

// allowed reports whether the policies let pods of one workload open connections to a port of another's.
func (o *overlay) allowed(t *testing.T, from, to *workload, port string) bool {
	t.Helper()
	at, ok := to.port(intstr.FromString(port))
	if !ok {
		t.Fatalf("%s has no port %s", to.name, port)
	}
	matches := func(ps []networkingv1.NetworkPolicyPeer, w *workload) bool {
		return len(ps) == 0 || slices.ContainsFunc(ps, func(p networkingv1.NetworkPolicyPeer) bool {
			if p.PodSelector == nil || p.NamespaceSelector != nil {
				return false // other namespaces
			}
			selector, err := metav1.LabelSelectorAsSelector(p.PodSelector)
			return err == nil && selector.Matches(w.labels())
		})
	}
	covers := func(ps []networkingv1.NetworkPolicyPort) bool {
		return len(ps) == 0 || slices.ContainsFunc(ps, func(p networkingv1.NetworkPolicyPort) bool {
			return p.Port == nil || p.Port.String() == at.Name || p.Port.Type == intstr.Int && p.Port.IntVal == at.ContainerPort
		})
	}
	out, in := false, false
	for _, object := range o.objects {
		v, ok := object.(*networkingv1.NetworkPolicy)
		if !ok {
			continue
		}
		selected := o.matching(t, &v.Spec.PodSelector)
		selects := func(w *workload) bool {
			return slices.ContainsFunc(selected, func(s workload) bool { return s.name == w.name })
		}
		for _, rule := range v.Spec.Egress {
			out = out || selects(from) && matches(rule.To, to) && covers(rule.Ports)
		}
		for _, rule := range v.Spec.Ingress {
			in = in || selects(to) && matches(rule.From, from) && covers(rule.Ports)
		}
	}
	return out && in
}

// TestConnections: the policies allow the connections that Rivulet opens, and no others between its pods.
func TestConnections(t *testing.T) {
	wanted := map[string]bool{
		"taskmanager jobmanager rpc": true, "jobmanager taskmanager rpc": true, "taskmanager taskmanager rpc": true,
		"jobmanager jobmanager rest": true, // a standby forwards
		"jobmanager etcd client":     true, "etcd etcd peer": true,
	}
	each(t, func(t *testing.T, o *overlay) {
		for _, from := range o.workloads {
			for _, to := range o.workloads {
				for _, c := range to.pod.Spec.Containers {
					for _, p := range c.Ports {
						way := fmt.Sprintf("%s %s %s", from.name, to.name, p.Name)
						want := wanted[way] && (from.name != to.name || from.replicas > 1)
						if got := o.allowed(t, &from, &to, p.Name); got != want && (from.name != to.name || from.replicas > 1) {
							t.Errorf("%s: allowed is %v", way, got)
						}
					}
				}
			}
		}
	})
}
