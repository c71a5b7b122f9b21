//! Traces as an on-call engineer meets them: in a real Jaeger, searched by server and by decision.

use std::collections::BTreeSet;
use std::time::Duration;

use dittofs_operator::telemetry::table::{Attribute, span_of};
use dittofs_testbed::audit::Expect;
use dittofs_testbed::cluster::resources;
use dittofs_testbed::dittofs::{Mode, Scope};
use dittofs_testbed::jaeger::{Jaeger, Search, Span, Style, Trace, render};
use dittofs_testbed::operator::OperatorOptions;
use dittofs_testbed::proxy::{Action, Rule};
use http::Method;
use serde_json::json;

use crate::look::LATER;
use crate::support::Bed;

const SERVICE: &str = "dittofs-operator";
const BOTH: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];

/// The environment of an operator that exports to `jaeger`, soon after each span.
fn exporting(options: OperatorOptions, jaeger: &Jaeger) -> OperatorOptions {
    let mut options = options;
    options.env.extend([
        ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), jaeger.otlp_grpc()),
        ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "200".to_owned()),
        ("POD_NAMESPACE".to_owned(), "dittofs-system".to_owned()),
    ]);
    options
}

/// A Jaeger, and a ready server `files` whose operator exports to it.
async fn traced(test: &str) -> (Bed, Jaeger) {
    let jaeger = Jaeger::start().await.expect("Jaeger starts");
    let mut bed = Bed::idle(test).await;
    let options = exporting(bed.options(), &jaeger);
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    (bed, jaeger)
}

/// `namespace/files`, as spans name it.
fn server(bed: &Bed) -> String {
    format!("{}/files", bed.world.namespace().name())
}

/// A search for traces of this test's server.
fn search(bed: &Bed) -> Search {
    Search::service(SERVICE).tag(Attribute::Server.key(), &server(bed))
}

/// The newest trace that matches and that `judge` takes; it is whole and keeps the contract.
async fn find(jaeger: &Jaeger, search: &Search, judge: impl Fn(&Trace) -> Result<(), String>) -> Trace {
    let judged = |traces: &[Trace]| {
        let mut why = "no trace matches".to_owned();
        for trace in traces {
            match trace.check_shape().and_then(|()| judge(trace)) {
                Ok(()) => return Ok(trace.clone()),
                Err(reason) => why = format!("{reason} in\n{}", render(trace, Style::Plain)),
            }
        }
        Err(why)
    };
    let trace = jaeger.wait_for(search, LATER, judged).await.expect("the trace");
    keeps_the_contract(&trace);
    trace
}

/// Each span has a name, a kind and attributes that are documented.
fn keeps_the_contract(trace: &Trace) {
    let everywhere = [Attribute::Server, Attribute::Namespace, Attribute::ErrorType];
    for span in &trace.spans {
        let spec = span_of(&span.name).unwrap_or_else(|| panic!("{} is no documented span", span.name));
        assert_eq!(span.kind, spec.kind, "{}", span.name);
        let documented: BTreeSet<&str> = spec.attributes.iter().chain(&everywhere).map(|key| key.key()).collect();
        for key in span.tags.keys().filter(|key| !is_added(key)) {
            assert!(documented.contains(key.as_str()), "{} carries {key}, which is not documented", span.name);
        }
        assert_eq!(span.tag(Attribute::Server.key()), trace.spans[0].tag(Attribute::Server.key()));
        assert!(spec.root || span.parent.is_some(), "{} begins a trace", span.name);
        assert_eq!(span.error.is_some(), span.tags.contains_key(Attribute::ErrorType.key()), "{}", span.name);
    }
    let process = &trace.spans[0].process;
    for key in ["service.version", "service.instance.id"] {
        assert!(process.contains_key(key), "{process:?}");
    }
    assert_eq!(process["k8s.namespace.name"], "dittofs-system");
}

/// What Jaeger and the exporter's layer put there.
fn is_added(key: &str) -> bool {
    ["otel.", "span.kind", "error", "internal.span.format", "busy_ns", "idle_ns"]
        .iter()
        .any(|known| key == *known || (known.ends_with('.') && key.starts_with(known)))
}

/// The only span of that name.
fn only<'a>(trace: &'a Trace, name: &'a str) -> Result<&'a Span, String> {
    let found: Vec<&Span> = trace.named(name).collect();
    match found.as_slice() {
        [span] => Ok(span),
        other => Err(format!("{} spans `{name}`", other.len())),
    }
}

/// That `child` is a child of `parent`.
fn is_child(child: &Span, parent: &Span) -> Result<(), String> {
    if child.parent.as_ref() == Some(&parent.span_id) {
        Ok(())
    } else {
        Err(format!("`{}` is no child of `{}`", child.name, parent.name))
    }
}

fn has(span: &Span, attribute: Attribute, wanted: &str) -> Result<(), String> {
    let value = span.tag(attribute.key()).unwrap_or_default();
    if value.contains(wanted) { Ok(()) } else { Err(format!("`{}`: {} is {value:?}", span.name, attribute.key())) }
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_service_went_away_is_one_trace_found_by_server_and_decision() {
    let (bed, jaeger) = traced("trace-removal").await;
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &[("nfs", 12049)]).await;
    bed.wait_adapter_ports("files", &[("nfs", 12049)]).await;

    let removal = search(&bed).operation("reconcile services").tag(Attribute::Decision.key(), "delete");
    let removal = Search { tags: removal.tags, ..removal };
    let trace = find(&jaeger, &search(&bed).operation("kube DELETE services"), |trace| {
        let root = only(trace, "poll adapters")?;
        has(root, Attribute::Decision, "observed")?;
        has(root, Attribute::Diff, "smb Running on 1445")?;
        has(root, Attribute::Diff, "smb Stopped")?;
        let call = only(trace, "dittofs GET /api/v1/adapters")?;
        is_child(call, root)?;
        has(call, Attribute::Status, "200")?;
        // One cause, two branches.
        let services = only(trace, "reconcile services")?;
        let ports = only(trace, "reconcile ports")?;
        for branch in [services, ports] {
            is_child(branch, root)?;
            has(branch, Attribute::Cause, "adapters-observed")?;
            for queue in [Attribute::MailboxTime, Attribute::SlotTime, Attribute::TurnTime] {
                let time = branch.tags.get(queue.key()).and_then(serde_json::Value::as_f64);
                time.filter(|time| *time >= 0.0).ok_or_else(|| format!("{}: {time:?}", queue.key()))?;
            }
        }
        has(services, Attribute::Decision, "delete")?;
        has(services, Attribute::Diff, "deleted Service files-adapter-smb")?;
        let delete = only(trace, "kube DELETE services")?;
        is_child(delete, services)?;
        has(delete, Attribute::Object, "services/files-adapter-smb")?;
        has(delete, Attribute::Status, "200")?;
        has(ports, Attribute::Diff, "adapter-smb")?;
        let write = only(trace, "kube PUT statefulsets")?;
        is_child(write, ports)?;
        only(trace, "kube PATCH dittoservers/status").map(|_| ())
    })
    .await;
    let found = jaeger.traces(&removal).await.expect("an answer");
    assert!(found.iter().any(|found| found.trace_id == trace.trace_id), "searched by decision");

    // The same id leads here from the API, from the log and from kubectl.
    let id = trace.trace_id.clone();
    bed.world
        .wait_server("files", "to name the trace of its last change", LATER, |server| {
            let change = &server["status"]["lastChange"];
            let same = change["traceID"] == id.as_str() && change["time"].is_string();
            if same { Ok(()) } else { Err(change.to_string()) }
        })
        .await
        .expect("the status names it");
    let logs = bed.world.operator().logs();
    let line = logs.iter().find(|line| line.contains("deleted a Service")).expect("a line about the removal");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["trace_id"], id.as_str());
    bed.world
        .wait_until("the event to lead to the trace", LATER, async || {
            let events = bed.events("AdapterServiceDeleted").await;
            let annotation =
                |event: &serde_json::Value| event["metadata"]["annotations"]["dittofs.io/trace-id"].clone();
            let found = events.iter().any(|event| annotation(event) == id.as_str());
            if found { Ok(()) } else { Err(format!("{:?}", events.iter().map(annotation).collect::<Vec<_>>())) }
        })
        .await
        .expect("the annotation");
    let carried = bed.dittofs("files").requests().into_iter().filter_map(|request| request.traceparent);
    let call = only(&trace, "dittofs GET /api/v1/adapters").expect("there");
    assert!(carried.into_iter().any(|parent| parent == format!("00-{id}-{}-01", call.span_id)), "traceparent");
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_server_exports_nothing_and_a_start_and_a_move_are_found() {
    let (bed, jaeger) = traced("trace-quiet").await;
    bed.world
        .wait_until("the birth to be exported", LATER, async || {
            let traces = jaeger.traces(&search(&bed)).await.map_err(|error| error.to_string())?;
            let reported = traces.iter().any(|trace| trace.named("kube PATCH dittoservers/status").next().is_some());
            if reported { Ok(()) } else { Err(format!("{} traces", traces.len())) }
        })
        .await
        .expect("the birth");
    // Settled: two looks ten polls apart see the same.
    let count =
        async || jaeger.traces(&search(&bed)).await.expect("an answer").iter().map(|t| t.spans.len()).sum::<usize>();
    bed.wait_polls("files", 3).await;
    bed.world
        .wait_until("ten polls that export nothing", LATER, async || {
            let before = count().await;
            bed.wait_polls("files", 10).await;
            let after = count().await;
            if before == after { Ok(()) } else { Err(format!("{before} spans became {after}")) }
        })
        .await
        .expect("quiet polls");

    bed.dittofs("files").move_adapter("nfs", 13049, Duration::ZERO);
    bed.wait_adapter_services("files", &[("nfs", 13049), ("smb", 1445)]).await;
    find(&jaeger, &search(&bed).operation("kube PUT services").tag(Attribute::Decision.key(), "update"), |trace| {
        let services = only(trace, "reconcile services")?;
        has(services, Attribute::Diff, "13049")
    })
    .await;
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &[("nfs", 13049)]).await;
    bed.dittofs("files").start_adapter("smb");
    bed.wait_adapter_services("files", &[("nfs", 13049), ("smb", 1445)]).await;
    find(&jaeger, &search(&bed).operation("kube POST services"), |trace| {
        only(trace, "poll adapters")?;
        has(only(trace, "reconcile services")?, Attribute::Decision, "create")
    })
    .await;
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_that_was_retried_is_an_event_on_the_span_that_met_it() {
    let jaeger = Jaeger::start().await.expect("Jaeger starts");
    let mut bed = Bed::idle("trace-conflict").await;
    let options = exporting(bed.options(), &jaeger);
    let proxy = bed.world.start_operator_through_proxy(options).await.expect("the operator starts");
    bed.world.operator().wait_ready().await.expect("the operator is ready");
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let namespace = bed.world.namespace().clone();
    let hook = Action::before(move |_| {
        let namespace = namespace.clone();
        Box::pin(async move {
            let change = json!({"metadata": {"annotations": {"example.com/theirs": "kept"}}});
            namespace.patch(resources::STATEFUL_SETS, "files", &change).await.expect("their write");
        })
    });
    let is_replace = |method: &Method, path: &str| method == Method::PUT && path.contains("/statefulsets/files");
    proxy.rule(Rule::new(is_replace, hook).times(1));
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_ports("files", &[("nfs", 12049)]).await;
    find(&jaeger, &search(&bed).operation("kube PUT statefulsets"), |trace| {
        only(trace, "poll adapters")?;
        let ports = only(trace, "reconcile ports")?;
        if ports.error.is_some() {
            return Err("a retry that succeeds is no failure".to_owned());
        }
        let retry = ports.events.iter().find(|event| event.name == "retry").ok_or("no event retry")?;
        let field = |key: Attribute| retry.fields.get(key.key()).map(ToString::to_string).unwrap_or_default();
        if !field(Attribute::Object).contains("statefulsets/files") || !field(Attribute::ErrorType).contains("conflict")
        {
            return Err(format!("{retry:?}"));
        }
        let writes: Vec<&Span> = trace.named("kube PUT statefulsets").collect();
        let [refused, done] = writes.as_slice() else { return Err(format!("{} writes", writes.len())) };
        has(refused, Attribute::Status, "409")?;
        has(refused, Attribute::Reason, "Conflict")?;
        refused.error.as_ref().ok_or("the refused write is no error")?;
        has(done, Attribute::Status, "200")
    })
    .await;
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_rolls_the_pod_is_one_trace_from_the_watch_to_the_stateful_set() {
    let (bed, jaeger) = traced("trace-roll").await;
    bed.patch_spec("files", &json!({"logging": {"level": "DEBUG"}})).await;
    bed.wait_starts(2).await;
    find(&jaeger, &search(&bed).operation("kube PUT statefulsets"), |trace| {
        let root = only(trace, "watch dittoservers")?;
        let hash = only(trace, "hash config")?;
        is_child(hash, root)?;
        has(hash, Attribute::Decision, "hashed")?;
        has(hash, Attribute::Cause, "server-changed")?;
        only(trace, "kube PUT configmaps")?;
        let rolled = trace.named("reconcile ports").find(|ports| has(ports, Attribute::Diff, "config-hash").is_ok());
        let rolled = rolled.ok_or("no `reconcile ports` whose difference is the hash")?;
        has(rolled, Attribute::Diff, "the pod rolls")
    })
    .await;
    bed.world.wait_ready("files").await.expect("ready again");
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_its_span_with_an_error_and_the_next_attempt_links_to_it() {
    let jaeger = Jaeger::start().await.expect("Jaeger starts");
    let mut bed = Bed::idle("trace-panic").await;
    let mut options = exporting(bed.options(), &jaeger);
    let faults = "panic:service-reconciler.job@files:1,panic:config-hasher.handler@files:1";
    options.env.push(("DITTOFS_FAULTS".to_owned(), faults.to_owned()));
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;

    let job = find(
        &jaeger,
        &search(&bed).tag(Attribute::ErrorType.key(), "panic").operation("reconcile services"),
        |trace| {
            let failed = trace.named("reconcile services").find(|span| span.error.is_some()).ok_or("no failed run")?;
            has(failed, Attribute::ErrorType, "panic")
        },
    )
    .await;
    let failed = job.named("reconcile services").find(|span| span.error.is_some()).expect("found").clone();
    bed.world
        .wait_until("a span that links to the run that panicked", LATER, async || {
            let traces = jaeger.traces(&search(&bed)).await.map_err(|error| error.to_string())?;
            let linked = traces.iter().flat_map(|trace| &trace.spans).any(|span| {
                span.name == failed.name
                    && span.links.iter().any(|link| link.trace_id == failed.trace_id && link.span_id == failed.span_id)
            });
            // A poke that came first ran in its own trace and needs no link.
            let ran = traces
                .iter()
                .flat_map(|trace| trace.named("reconcile services"))
                .any(|span| span.error.is_none() && span.start_us > failed.start_us);
            if linked || ran { Ok(()) } else { Err(format!("{} traces", traces.len())) }
        })
        .await
        .expect("the next attempt");
    find(&jaeger, &search(&bed).operation("restart actor"), |trace| {
        let restart = only(trace, "restart actor")?;
        has(restart, Attribute::Actor, "config-hasher")?;
        has(restart, Attribute::ErrorType, "panic")
    })
    .await;
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_hangs_is_a_failed_poll_with_its_true_duration() {
    let (bed, jaeger) = traced("trace-hang").await;
    bed.dittofs("files").set_mode(Mode::Hang, Scope::All);
    find(&jaeger, &search(&bed).operation("poll adapters").tag(Attribute::ErrorType.key(), "timeout"), |trace| {
        let root = only(trace, "poll adapters")?;
        root.error.as_ref().ok_or("no error")?;
        let call = only(trace, "dittofs GET /api/v1/adapters")?;
        has(call, Attribute::ErrorType, "timeout")?;
        // The whole patience of a poll lies within the span: its start is true although the end decided.
        if root.duration_us < 9_000_000 { Err(format!("{} µs", root.duration_us)) } else { Ok(()) }
    })
    .await;
    bed.dittofs("files").heal();
    bed.wait_condition("files", "Authenticated", "True", "AuthenticationSucceeded").await;
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_found_and_no_span_carries_a_secret() {
    let (bed, jaeger) = traced("trace-end").await;
    let secrets = bed.world.namespace().list(resources::SECRETS, "").await.expect("secrets");
    bed.delete_server("files").await;
    find(&jaeger, &search(&bed).tag(Attribute::Decision.key(), "stop"), |trace| {
        let root = only(trace, "watch dittoservers")?;
        has(root, Attribute::Decision, "stop")
    })
    .await;
    let everything = format!("{:?}", jaeger.traces(&Search::service(SERVICE)).await.expect("an answer"));
    assert!(everything.contains("files-operator-credentials"), "the Secret's name is no secret");
    let mut looked_for = 0;
    for secret in &secrets {
        for (key, value) in secret["data"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            let plain = String::from_utf8(base64(value)).unwrap_or_default();
            if ["username", "server-url"].contains(&key.as_str()) || plain.len() < 8 {
                continue;
            }
            looked_for += 1;
            assert!(!everything.contains(&plain) && !everything.contains(value), "{key} of a Secret is in a span");
        }
    }
    assert!(looked_for >= 4, "JWT, both passwords and tokens were looked for: {looked_for}");
    bed.finish_with(Expect { pod_starts: Some(1), ..Expect::default() }).await;
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.decode(text).expect("base64")
}
