//! One reconcile as its trace, read back from Jaeger by what an engineer on call knows: the server and the decision.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use dittofs_testbed::cluster::{Namespace, resources, wait_until};
use dittofs_testbed::jaeger::{Jaeger, Search, Trace};

use crate::SERVER;
use crate::scene::PATIENCE;

/// `OTEL_BSP_SCHEDULE_DELAY` of the operator: spans wait for so long before they are sent.
pub(crate) const SEND_DELAY: Duration = Duration::from_millis(500);
/// `service.name` of the operator.
const SERVICE: &str = "dittofs-operator";
/// What a poll that found a new adapter comes to: the Service, and its port in the StatefulSet. The status may follow
/// in a trace of its own, when it was written less than a second ago.
const WRITES: [&str; 2] = ["kube POST services", "kube PUT statefulsets"];

/// The search for the creation of Services of the story's server.
pub(crate) fn creation(namespace: &Namespace) -> Search {
    Search::service(SERVICE)
        .tag("dittofs.server", &format!("{}/{SERVER}", namespace.name()))
        .tag("dittofs.decision", "create")
}

/// The trace of the creation that came after `since`, when it is whole.
///
/// # Errors
/// When Jaeger has none such in [`PATIENCE`], or `.status.lastChange` of the server leads elsewhere.
pub(crate) async fn read_back(jaeger: &Jaeger, namespace: &Namespace, since: SystemTime) -> anyhow::Result<Trace> {
    let since = u64::try_from(since.duration_since(UNIX_EPOCH)?.as_micros())?;
    let newest = |traces: &[Trace]| {
        let trace = traces.first().ok_or("Jaeger has no such trace")?;
        if trace.start_us() < since { Err("the newest one is of an earlier change".to_owned()) } else { whole(trace) }
    };
    let mut trace = jaeger.wait_for(&creation(namespace), PATIENCE, newest).await?;
    loop {
        // What is reported of the writes follows a moment later: until no span comes any more.
        tokio::time::sleep(2 * SEND_DELAY).await;
        let again = jaeger.trace(&trace.trace_id).await?.context("Jaeger forgot the trace")?;
        let settled = again.spans.len() == trace.spans.len();
        trace = again;
        if settled {
            break;
        }
    }
    let trace = whole(&trace).map_err(anyhow::Error::msg)?;
    wait_until("the server's .status.lastChange to name the trace", PATIENCE, async || {
        let server = namespace.get(resources::SERVERS, SERVER).await.map_err(|error| error.to_string())?;
        let change = server.unwrap_or_default()["status"]["lastChange"].take();
        if change["traceID"] == trace.trace_id.as_str() { Ok(()) } else { Err(change.to_string()) }
    })
    .await?;
    Ok(trace)
}

/// The trace, if all of it is there: one tree that begins with the poll and ends in every write.
fn whole(trace: &Trace) -> Result<Trace, String> {
    trace.check_shape()?;
    let roots = trace.tree();
    let root = roots.first().map_or("nothing", |root| root.span.name.as_str());
    if root != "poll adapters" {
        return Err(format!("it begins with {root}"));
    }
    match WRITES.iter().find(|name| trace.named(name).next().is_none()) {
        Some(missing) => Err(format!("no span `{missing}`")),
        None => Ok(trace.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dittofs_testbed::jaeger::Span;

    fn trace(names: &[&str]) -> Trace {
        let span = |(index, name): (usize, &&str)| Span {
            trace_id: "t".to_owned(),
            span_id: index.to_string(),
            name: (*name).to_owned(),
            parent: (index > 0).then(|| "0".to_owned()),
            ..Span::default()
        };
        Trace { trace_id: "t".to_owned(), spans: names.iter().enumerate().map(span).collect() }
    }

    #[test]
    fn a_trace_is_whole_with_its_cause_and_every_write() {
        let all = ["poll adapters", WRITES[0], WRITES[1]];
        assert!(whole(&trace(&all)).is_ok());
        for missing in 0..all.len() {
            let mut names = all.to_vec();
            names.remove(missing);
            assert!(whole(&trace(&names)).is_err(), "without {}", all[missing]);
        }
        let mut orphan = trace(&all);
        orphan.spans[2].parent = Some("9".to_owned());
        assert!(whole(&orphan).is_err());
    }
}
