package deploy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// overlays are the directories of deploy/kubernetes that are applied as they are.
var overlays = []string{"mini", "session", "application", "ha", "application-ha"}

// namespace is where all of it goes.
const namespace = "rivulet"

// clients are labels of pods that are not ours and that policies let in.
var clients = []labels.Set{{"rivulet.io/rest": "client"}}

// workload is what makes pods.
type workload struct {
	name     string
	replicas int32
	selector *metav1.LabelSelector
	pod      corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
}

func (w *workload) labels() labels.Set { return w.pod.Labels }

// overlay is a rendered overlay.
type overlay struct {
	objects   []runtime.Object
	workloads []workload
	configs   map[string]*corev1.ConfigMap
	claims    map[string]bool
}

// render renders an overlay as kustomize does, and decodes each document as strictly as Kubernetes can: an unknown or doubled field is an error.
func render(t *testing.T, name string) *overlay {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(root, "deploy/kubernetes", name))
	if err != nil {
		t.Fatal(err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	o := &overlay{configs: map[string]*corev1.ConfigMap{}, claims: map[string]bool{}}
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return o
		}
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		o.objects = append(o.objects, object)
		switch v := object.(type) {
		case *appsv1.StatefulSet:
			o.workloads = append(o.workloads, workload{v.Name, *v.Spec.Replicas, v.Spec.Selector, v.Spec.Template, v.Spec.VolumeClaimTemplates})
		case *appsv1.Deployment:
			o.workloads = append(o.workloads, workload{v.Name, *v.Spec.Replicas, v.Spec.Selector, v.Spec.Template, nil})
		case *corev1.ConfigMap:
			o.configs[v.Name] = v
		case *corev1.PersistentVolumeClaim:
			o.claims[v.Name] = true
		}
	}
}

// each runs a test for each overlay.
func each(t *testing.T, f func(t *testing.T, o *overlay)) {
	for _, name := range overlays {
		t.Run(name, func(t *testing.T) { f(t, render(t, name)) })
	}
}

// matching returns the workloads whose pods a selector selects.
func (o *overlay) matching(t *testing.T, s *metav1.LabelSelector) (found []workload) {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range o.workloads {
		if selector.Matches(w.labels()) {
			found = append(found, w)
		}
	}
	return found
}

// TestAllOverlays: no directory is left out.
func TestAllOverlays(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "deploy/kubernetes/*/kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range files {
		if name := filepath.Base(filepath.Dir(f)); name != "base" {
			found = append(found, name)
		}
	}
	if want := slices.Sorted(slices.Values(overlays)); !slices.Equal(found, want) {
		t.Errorf("deploy/kubernetes has the overlays %v, tested are %v", found, want)
	}
}

func TestNamespace(t *testing.T) {
	each(t, func(t *testing.T, o *overlay) {
		admits := false
		for _, object := range o.objects {
			if ns, ok := object.(*corev1.Namespace); ok {
				admits = admits || ns.Name == namespace && ns.Labels[api.EnforceLevelLabel] == string(api.LevelRestricted)
				continue
			}
			if m := object.(metav1.Object); m.GetNamespace() != namespace {
				t.Errorf("%T %s is in the namespace %q", object, m.GetName(), m.GetNamespace())
			}
		}
		if !admits {
			t.Errorf("no namespace %s that admits restricted pods only", namespace)
		}
	})
}

// TestRestricted: each pod is admitted where Pod Security is "restricted", and is stricter than that: it cannot write to its image, has no token of Kubernetes, and has
// limits, probes and time to end.
func TestRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, o *overlay) {
		for _, w := range o.workloads {
			for _, r := range evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &w.pod.ObjectMeta, &w.pod.Spec) {
				if !r.Allowed {
					t.Errorf("%s: %s: %s", w.name, r.ForbiddenReason, r.ForbiddenDetail)
				}
			}
			spec := &w.pod.Spec
			if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
				t.Errorf("%s: it gets a token of Kubernetes", w.name)
			}
			if s := spec.TerminationGracePeriodSeconds; s == nil || *s <= 10 {
				t.Errorf("%s: terminationGracePeriodSeconds: want more than the 10 s that a process takes to end", w.name)
			}
			for _, c := range spec.Containers {
				if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
					t.Errorf("%s/%s: its image can be written to", w.name, c.Name)
				}
				if c.LivenessProbe == nil || c.ReadinessProbe == nil {
					t.Errorf("%s/%s: want a liveness and a readiness probe", w.name, c.Name)
				}
				if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
					t.Errorf("%s/%s: want a limit of memory, and requests of memory and processor", w.name, c.Name)
				}
			}
		}
	})
}

// TestReferences: what is named is there.
func TestReferences(t *testing.T) {
	each(t, func(t *testing.T, o *overlay) {
		accounts := map[string]bool{}
		services := map[string]*corev1.Service{}
		for _, object := range o.objects {
			switch v := object.(type) {
			case *corev1.ServiceAccount:
				accounts[v.Name] = true
			case *corev1.Service:
				services[v.Name] = v
			}
		}
		for _, w := range o.workloads {
			if len(o.matching(t, w.selector)) != 1 {
				t.Errorf("%s: its selector selects the pods of %d workloads", w.name, len(o.matching(t, w.selector)))
			}
			if !accounts[w.pod.Spec.ServiceAccountName] {
				t.Errorf("%s: there is no account %q", w.name, w.pod.Spec.ServiceAccountName)
			}
			volumes := map[string]bool{}
			for _, c := range w.claims {
				volumes[c.Name] = true
			}
			for _, v := range w.pod.Spec.Volumes {
				volumes[v.Name] = true
				if c := v.ConfigMap; c != nil && o.configs[c.Name] == nil {
					t.Errorf("%s: there is no config map %q", w.name, c.Name)
				}
				if c := v.PersistentVolumeClaim; c != nil && !o.claims[c.ClaimName] {
					t.Errorf("%s: there is no claim %q", w.name, c.ClaimName)
				}
			}
			for _, c := range w.pod.Spec.Containers {
				for _, m := range c.VolumeMounts {
					if !volumes[m.Name] {
						t.Errorf("%s/%s: there is no volume %q", w.name, c.Name, m.Name)
					}
					delete(volumes, m.Name)
				}
			}
			for v := range volumes {
				t.Errorf("%s: nobody mounts the volume %q", w.name, v)
			}
		}
		for _, object := range o.objects {
			switch v := object.(type) {
			case *appsv1.StatefulSet:
				if services[v.Spec.ServiceName] == nil || services[v.Spec.ServiceName].Spec.ClusterIP != corev1.ClusterIPNone {
					t.Errorf("%s: there is no headless service %q", v.Name, v.Spec.ServiceName)
				}
			case *policyv1.PodDisruptionBudget:
				for _, w := range o.matching(t, v.Spec.Selector) {
					// A budget that allows nothing keeps nodes from being drained.
					if v.Spec.MinAvailable != nil && v.Spec.MinAvailable.IntVal >= w.replicas {
						t.Errorf("budget %s: it allows no disruption of the %d %s", v.Name, w.replicas, w.name)
					}
				}
				if len(o.matching(t, v.Spec.Selector)) != 1 {
					t.Errorf("budget %s: want one workload to which it applies", v.Name)
				}
			}
		}
		for _, w := range o.workloads {
			if w.replicas > 1 && !slices.ContainsFunc(o.objects, func(object runtime.Object) bool {
				b, ok := object.(*policyv1.PodDisruptionBudget)
				return ok && slices.ContainsFunc(o.matching(t, b.Spec.Selector), func(of workload) bool { return of.name == w.name })
			}) {
				t.Errorf("%s: there are %d without a disruption budget", w.name, w.replicas)
			}
		}
	})
}

// programs are the images that are ours, by the binary they start.
var programs = map[string]string{
	"count": "program", "count-ha": "program", "program": "program", "rivulet/mini": "mini", "rivulet/jobmanager": "jobmanager", "rivulet/taskmanager": "taskmanager",
}

// imageName is an image's name without its tag.
func imageName(image string) string {
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[:i]
	}
	return image
}

// TestArguments: the very binaries take what they are started with.
func TestArguments(t *testing.T) {
	each(t, func(t *testing.T, o *overlay) {
		ours := 0
		for _, w := range o.workloads {
			for _, c := range w.pod.Spec.Containers {
				name, ok := programs[imageName(c.Image)]
				if !ok {
					continue
				}
				ours++
				if len(c.Command) > 0 {
					t.Errorf("%s: the image says what is started", w.name)
				}
				args := make([]string, len(c.Args))
				for i, a := range c.Args {
					args[i] = strings.ReplaceAll(a, "$(POD_IP)", "10.0.0.7")
				}
				accepts(t, name, args)
				within(t, w.name, args, c.Resources.Limits.Memory().Value())
			}
		}
		if ours == 0 {
			t.Error("nothing of ours is started")
		}
		for _, c := range o.configs {
			checkConfig(t, c.Name, c.Data["config.yaml"])
		}
	})
}
