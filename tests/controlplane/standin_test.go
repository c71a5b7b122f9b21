package main

import (
	"slices"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 123456789, time.UTC)

func podOf(namespace, statefulSet string) *core.Pod {
	pod := &core.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: statefulSet + "-0", UID: "pod-uid", Generation: 4},
		Spec:       core.PodSpec{Containers: []core.Container{{Name: "main", Image: "example.test/main:1"}}},
	}
	owner := &apps.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: statefulSet, UID: "set-uid"}}
	pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, apps.SchemeGroupVersion.WithKind("StatefulSet"))}
	return pod
}

func readiness(t *testing.T, status core.PodStatus) core.PodCondition {
	t.Helper()
	for _, condition := range status.Conditions {
		if condition.Type == core.PodReady {
			return condition
		}
	}
	t.Fatalf("no condition Ready in %v", status.Conditions)
	return core.PodCondition{}
}

// A status that is made again later must equal the one before: it would be written for ever.
func TestStatusIsStable(t *testing.T) {
	record := podRecord{startedAt: noon, ip: "10.244.0.1", restarts: 2, lastRestart: noon.Add(time.Second)}
	for _, mode := range []string{modeNormal, modeNeverReady, modeCrashLoop} {
		pod := podOf("east", "files")
		pod.Status = runningStatus(pod, record, mode, noon.Add(2*time.Second))
		again := runningStatus(pod, record, mode, noon.Add(time.Hour))
		if !apiequality.Semantic.DeepEqual(pod.Status, again) {
			t.Errorf("%s: %v became %v", mode, pod.Status, again)
		}
	}
	pod := podOf("east", "files")
	why := waiting{"ImagePullBackOff", "no such image"}
	pod.Status = waitingStatus(pod, noon, why)
	if again := waitingStatus(pod, noon.Add(time.Hour), why); !apiequality.Semantic.DeepEqual(pod.Status, again) {
		t.Errorf("%v became %v", pod.Status, again)
	}
}

func TestReadiness(t *testing.T) {
	crashed := podRecord{startedAt: noon, restarts: 1, lastRestart: noon, unreadyUntil: noon.Add(time.Second)}
	for name, test := range map[string]struct {
		mode  string
		after time.Duration
		want  core.ConditionStatus
	}{
		"just crashed":    {modeNormal, 500 * time.Millisecond, core.ConditionFalse},
		"back again":      {modeNormal, time.Second, core.ConditionTrue},
		"never ready":     {modeNeverReady, time.Hour, core.ConditionFalse},
		"crash loop":      {modeCrashLoop, time.Hour, core.ConditionFalse},
		"running already": {modeUnschedulable, time.Hour, core.ConditionTrue},
		"image is pulled": {modeImagePullBackOff, time.Hour, core.ConditionTrue},
		"as it crashes":   {modeNormal, 0, core.ConditionFalse},
	} {
		status := runningStatus(podOf("east", "files"), crashed, test.mode, noon.Add(test.after))
		if got := readiness(t, status).Status; got != test.want {
			t.Errorf("%s: ready is %s, want %s", name, got, test.want)
		}
	}
}

func TestNarrowestBehaviorWins(t *testing.T) {
	all := newBehaviors()
	for scope, mode := range map[behaviorScope]string{
		{"", ""}:           modeNeverReady,
		{"east", ""}:       modeUnschedulable,
		{"east", "files"}:  modeCrashLoop,
		{"", "everywhere"}: modeImagePullBackOff,
	} {
		if err := all.set(scope, behavior{mode: mode}); err != nil {
			t.Fatal(err)
		}
	}
	if err := all.set(behaviorScope{"west", ""}, behavior{mode: modeCrashLoop, onlyNew: true, since: noon}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		namespace, statefulSet string
		firstSeen              time.Time
		want                   string
	}{
		{"east", "files", noon, modeCrashLoop},
		{"east", "other", noon, modeUnschedulable},
		{"north", "everywhere", noon, modeImagePullBackOff},
		{"north", "other", noon, modeNeverReady},
		{"west", "other", noon.Add(-time.Second), modeNeverReady},
		{"west", "other", noon.Add(time.Second), modeCrashLoop},
	} {
		if got := all.of(podOf(test.namespace, test.statefulSet), test.firstSeen).mode; got != test.want {
			t.Errorf("%+v: got %s", test, got)
		}
	}
	if err := all.set(behaviorScope{}, behavior{mode: "sleepy"}); err == nil {
		t.Error("an unknown mode was taken")
	}
}

func TestReferences(t *testing.T) {
	pod := podOf("east", "files")
	pod.Spec.Volumes = []core.Volume{
		{VolumeSource: core.VolumeSource{Secret: &core.SecretVolumeSource{SecretName: "tls"}}},
		{VolumeSource: core.VolumeSource{Secret: &core.SecretVolumeSource{SecretName: "may-be", Optional: new(true)}}},
		{VolumeSource: core.VolumeSource{ConfigMap: &core.ConfigMapVolumeSource{
			LocalObjectReference: core.LocalObjectReference{Name: "config"},
			Items:                []core.KeyToPath{{Key: "config.yaml"}},
		}}},
	}
	pod.Spec.Containers[0].Env = []core.EnvVar{{ValueFrom: &core.EnvVarSource{SecretKeyRef: &core.SecretKeySelector{
		LocalObjectReference: core.LocalObjectReference{Name: "admin"}, Key: "password",
	}}}}
	check := func(what string, got []reference, want ...reference) {
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	check("volumes", volumeReferences(pod), reference{"secret", "tls", ""},
		reference{"configmap", "config", ""}, reference{"configmap", "config", "config.yaml"})
	check("environment", environmentReferences(pod), reference{"secret", "admin", "password"})
}

func TestAddressesDiffer(t *testing.T) {
	seen := map[string]int{}
	for n := range 2000 {
		address := nthAddress(n)
		if before, ok := seen[address]; ok {
			t.Fatalf("%d and %d are both %s", before, n, address)
		}
		seen[address] = n
	}
}

func TestSettingsOfANamespace(t *testing.T) {
	all := newSettings(loadBalancerSettings{Assign: true})
	all.change("east", func(s *loadBalancerSettings) { s.Hold = true })
	all.change("", func(s *loadBalancerSettings) { s.Finalizer = true })
	if got, want := all.of("east"), (loadBalancerSettings{Assign: true, Hold: true}); got != want {
		t.Errorf("east: got %+v", got)
	}
	if got, want := all.of("west"), (loadBalancerSettings{Assign: true, Finalizer: true}); got != want {
		t.Errorf("west: got %+v", got)
	}
}
