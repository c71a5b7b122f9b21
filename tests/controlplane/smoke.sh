#!/usr/bin/env bash
# Tries what README.md promises on real clusters: two side by side, then one whose `up` is
# killed, and more. Takes about half a minute once the program is built. Needs curl and jq.
#
#   smoke.sh [PROGRAM]      PROGRAM: by default what build.sh prints
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

program=${1:-$(./build.sh)}
work=$(mktemp -d)
declare -A up
finish() {
    local status=$?
    for name in "${!up[@]}"; do kill -KILL "${up[$name]}" 2>/dev/null || true; done
    if ((status)); then echo "smoke: FAILED; files in $work" >&2; else rm -rf -- "$work"; fi
}
trap finish EXIT

step() { printf '%6.1f s  %s\n' "$(bc <<<"$(date +%s.%N) - $began")" "$*" >&2; }
began=$(date +%s.%N)

# start NAME: a cluster whose stdin stays open as long as this script holds a descriptor.
start() {
    local name=$1 before
    before=$(date +%s%N)
    mkfifo "$work/$name.stdin"
    "$program" up --dir "$work/$name" --manifest "$work/kinds.yaml" \
        <"$work/$name.stdin" >"$work/$name.json" 2>"$work/$name.err" &
    up[$name]=$!
    exec {stdin}>"$work/$name.stdin"
    eval "stdin_$name=$stdin"
    until [[ -s $work/$name.json ]]; do
        kill -0 "${up[$name]}" 2>/dev/null || { cat "$work/$name.err" >&2; exit 1; }
        sleep 0.02
    done
    step "cluster $name is ready after $((($(date +%s%N) - before) / 1000000)) ms"
}
of() { jq -re ".$2" "$work/$1.json"; }
kube() { local name=$1; shift; "$program" kubectl --kubeconfig "$(of "$name" kubeconfig)" "$@"; }
post() { curl -sS --fail-with-body --max-time 60 -X POST -d "${3:-}" "$(of "$1" control)$2"; }
starts() { curl -sS "$(of "$1" control)/pods/starts?namespace=$2" | jq -r '"\(.total) \(.restarts)"'; }
# until_is WANTED COMMAND…: up to 20 s.
until_is() {
    local wanted=$1 got="" i; shift
    for ((i = 0; i < 400; i++)); do
        got=$("$@" 2>&1) || true
        [[ $got == "$wanted" ]] && return
        sleep 0.05
    done
    echo "smoke: wanted '$wanted' of: $*; got '$got'" >&2
    return 1
}
# field CLUSTER OBJECT JSONPATH
field() { kube "$1" get $2 -o "jsonpath={$3}"; }
waiting=.status.containerStatuses[0].state.waiting.reason

cat >"$work/kinds.yaml" <<'YAML'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.smoke.test}
spec:
  group: smoke.test
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget, listKind: WidgetList}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
YAML
cat >"$work/web.yaml" <<'YAML'
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: smoke.test/web:1
        env: [{name: KEY, valueFrom: {secretKeyRef: {name: creds, key: key}}}]
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
YAML

start one
start two

kube one apply -f "$work/web.yaml" >&2
until_is CreateContainerConfigError field one pod/web-0 $waiting
[[ $(starts one default) == "0 0" ]]
kube one create secret generic creds --from-literal=key=value >&2
kube one wait --for=condition=Ready pod/web-0 --timeout=20s >&2
[[ $(starts one default) == "1 0" ]]
until_is 198.51.100.1 field one service/web .status.loadBalancer.ingress[0].ip
until_is "No resources found" kube two get pods -A
step "a pod waits for its Secret, then is ready; the Service has an address; cluster two knows nothing of it"

image() { kube one patch statefulset web --type=json -p '[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"smoke.test/web:'"$1"'"}]' >&2; }
image 2
kube one rollout status statefulset/web --timeout=20s >&2
[[ $(starts one default) == "2 0" ]]
step "a changed template rolls: two pod starts"

post one /pods/crash '{"namespace":"default","name":"web-0"}' >&2
until_is False field one pod/web-0 '.status.conditions[?(@.type=="Ready")].status'
until_is True field one pod/web-0 '.status.conditions[?(@.type=="Ready")].status'
[[ $(starts one default) == "2 1" ]]
for mode in image-pull-backoff:ImagePullBackOff crash-loop:CrashLoopBackOff; do
    post one /pods/behavior '{"namespace":"default","statefulset":"web","mode":"'"${mode%:*}"'"}' >&2
    kube one delete pod web-0 --wait=false >&2
    until_is "${mode#*:}" field one pod/web-0 $waiting
done
post one /pods/behavior '{"namespace":"default","statefulset":"web","mode":"unschedulable"}' >&2
kube one delete pod web-0 --wait=false >&2
until_is Unschedulable field one pod/web-0 '.status.conditions[?(@.type=="PodScheduled")].reason'
post one /pods/behavior '{"namespace":"default","statefulset":"web","mode":"normal"}' >&2
kube one wait --for=condition=Ready pod/web-0 --timeout=20s >&2
step "crash, image-pull-backoff, crash-loop, unschedulable, and normal again"

post one /volumes '{"resizeHold":true}' >&2
kube one patch pvc data-web-0 -p '{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}' >&2
until_is Resizing field one pvc/data-web-0 .status.conditions[0].type
[[ $(field one pvc/data-web-0 .status.capacity.storage) == 1Gi ]]
post one /volumes '{"resizeHold":false}' >&2
until_is 2Gi field one pvc/data-web-0 .status.capacity.storage
step "a claim grows when it is let"

post one /loadbalancer '{"finalizer":true,"hold":true}' >&2
until_is service.kubernetes.io/load-balancer-cleanup field one service/web .metadata.finalizers[0]
kube one delete service web --wait=false >&2
sleep 0.3
[[ -n $(field one service/web .metadata.deletionTimestamp) ]]
post one /loadbalancer '{"hold":false}' >&2
kube one wait --for=delete service/web --timeout=20s >&2
step "the cloud's finalizer holds a Service, then lets go"

kube two create namespace many >&2
kube two create serviceaccount operator >&2
kube two create clusterrolebinding operator --clusterrole=cluster-admin --serviceaccount=default:operator >&2
token=$(kube two create token operator)
"$program" kubectl --server "$(of two server)" --certificate-authority "$(of two ca)" --token "$token" \
    --cache-dir "$work/cache" create configmap mine --from-literal=a=b >&2
[[ $(jq -sr '[.[] | select(.user.username == "system:serviceaccount:default:operator" and .verb == "create") | .requestObject.data.a] | .[0]' "$(of two audit_log)") == b ]]
step "a service account has a token, and the audit log the body of what it wrote"

kube two apply -f - >&2 <<'YAML'
apiVersion: smoke.test/v1
kind: Widget
metadata: {name: owner}
YAML
kube two apply -f - >&2 <<YAML
apiVersion: v1
kind: ConfigMap
metadata:
  name: owned
  ownerReferences: [{apiVersion: smoke.test/v1, kind: Widget, name: owner, uid: $(field two widget/owner .metadata.uid)}]
YAML
kube two delete widget owner >&2
kube two wait --for=delete configmap/owned --timeout=20s >&2
step "the garbage collector knows the kind of the manifest"

before=$(date +%s%N)
kube two apply -n many -f - >&2 <<'YAML'
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: many}
spec:
  replicas: 200
  podManagementPolicy: Parallel
  serviceName: many
  selector: {matchLabels: {app: many}}
  template: {metadata: {labels: {app: many}}, spec: {containers: [{name: main, image: smoke.test/many:1}]}}
YAML
until_is 200 kube two get -n many statefulset/many -o "jsonpath={.status.readyReplicas}"
[[ $(starts two many) == "200 0" ]]
step "200 pods are ready after $((($(date +%s%N) - before) / 1000000)) ms"

post two /apiserver/stop >&2
if kube two get nodes >/dev/null 2>&1; then echo "smoke: the stopped API server answers" >&2; exit 1; fi
step "the API server is stopped"
post two /apiserver/start >&2
[[ $(field two node/node-1 .metadata.name) == node-1 ]]
step "the API server is back"
kube two delete -n many pod/many-7 >&2
kube two wait -n many --for=condition=Ready pod/many-7 --timeout=20s >&2
[[ $(starts two many) == "201 0" ]]
post two /controller-manager/stop >&2
post two /controller-manager/start >&2
step "and everything works on"

# children NAME: the ids of the programs of a cluster.
children() { pgrep -P "${up[$1]}" || true; }
gone() { local id; for id in "$@"; do ! kill -0 "$id" 2>/dev/null || return 1; done; echo gone; }

ids=$(children one)
[[ $(wc -w <<<"$ids") == 3 ]]
kill -KILL "${up[one]}"
wait "${up[one]}" 2>/dev/null || true
until_is gone gone $ids
step "killed: its programs died with it"

start three
ids=$(children three)
kill -KILL "$(pgrep -P "${up[three]}" -f '^controlplane etcd')"
status=0
wait "${up[three]}" || status=$?
[[ $status == 1 ]] && grep -q 'etcd ended unexpectedly' "$work/three.err"
gone $ids >/dev/null
step "a program that dies ends its cluster, with status 1"

start four
curl -sS "$(of four control)/stop" >&2
wait "${up[four]}"
step "GET /stop ends it with status 0"
ids=$(children two)
before=$(date +%s%N)
exec {stdin_two}>&-
wait "${up[two]}"
gone $ids >/dev/null
step "EOF on stdin: everything ended after $((($(date +%s%N) - before) / 1000000)) ms with status 0"
