//! S5: absence is not evidence. An adapter's Service, NetworkPolicy or container port is removed only when the last full answer of the
//! server's API, given to this run of the operator, says that the adapter does not run: gone, disabled, or enabled and
//! not running for the stop grace period.

use super::{Broken, Promise, View, adapter_ports, place, report};
use crate::audit::Observation;
use crate::audit::entry::Micros;
use crate::audit::history::controller;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

/// A decision may rest on the answer before the last when that came just now.
const LAG: i64 = 1_500_000;
/// So late after a restart a write of the killed run may still arrive: it was on its way. The new run has to find its
/// objects and be answered before it can remove anything.
const ON_ITS_WAY: i64 = Micros::SECOND;
/// The default of `adapterDiscovery.stopGracePeriod`.
const GRACE: i64 = 35 * Micros::SECOND;

pub(super) fn check(view: &View<'_>, broken: &mut Vec<Broken>) {
    let Some(timeline) = &view.facts.expect.timeline else { return };
    for entry in view.writes().filter(|entry| entry.succeeded() && entry.verb == "delete") {
        let label = match entry.object.resource.as_str() {
            "services" => "dittofs.io/adapter-service",
            "networkpolicies" => "dittofs.io/adapter-networkpolicy",
            _ => continue,
        };
        let Some(before) = view.history.before(entry) else { continue };
        let labels = &before.object["metadata"]["labels"];
        let policies_off = |server: &Value| server["spec"]["networkPolicy"]["enabled"] == false;
        let switched_off = entry.object.resource == "networkpolicies"
            && view.server_of(before.object, entry.received).is_some_and(policies_off);
        if labels[label] != "true" || switched_off {
            continue;
        }
        let adapter = labels["dittofs.io/adapter-type"].as_str().unwrap_or_default();
        if let Err(why) = justified(view, timeline, before.object, adapter, entry.received) {
            let words = format!("{} removed: {why}", place(&entry.object));
            report(broken, Promise::S5, words, &[entry]);
        }
    }
    for (key, states) in view.history.of_kind("apps", "statefulsets") {
        for pair in states.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            let ours = after.written && after.entry.user == view.facts.user;
            if !ours || before.uid() != after.uid() {
                continue;
            }
            let names = |set: &Value| -> Vec<String> {
                adapter_ports(&set["spec"]["template"]).into_iter().map(|(name, _)| name).collect()
            };
            let kept = names(after.object);
            for port in names(before.object).iter().filter(|port| !kept.contains(port)) {
                let adapter = port.trim_start_matches("adapter-");
                if let Err(why) = justified(view, timeline, after.object, adapter, after.entry.received) {
                    let words = format!("container port {port} of {}/{} removed: {why}", key.2, key.3);
                    report(broken, Promise::S5, words, &[after.entry]);
                }
            }
        }
    }
}

fn justified(
    view: &View<'_>,
    timeline: &[Observation],
    object: &Value,
    adapter: &str,
    at: Micros,
) -> Result<(), String> {
    let server = view.server_of(object, at);
    if server.is_some_and(|server| server["metadata"]["deletionTimestamp"].is_string()) {
        return Ok(());
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let name = controller(object).and_then(|owner| owner["name"].as_str()).unwrap_or_default();
    let grace = server
        .and_then(|server| server["spec"]["adapterDiscovery"]["stopGracePeriod"].as_str())
        .and_then(duration)
        .unwrap_or(GRACE);
    let since = |born: Micros| -> Vec<(Micros, &Observation)> {
        timeline
            .iter()
            .filter(|answer| answer.namespace == namespace && answer.server == name)
            .map(|answer| (Micros::from(answer.time), answer))
            .filter(|(time, _)| (born..=at).contains(time))
            .collect()
    };
    let born = view.born(at);
    let mut answers = since(born);
    if answers.is_empty() && at.0 - born.0 < ON_ITS_WAY {
        answers = since(view.born(born.plus(-1)));
    }
    let Some((last, _)) = answers.last() else {
        return Err("no full answer had come since the operator's start".to_owned());
    };
    let stopped = |(time, answer): &(Micros, &Observation)| {
        let Some(found) = answer.adapters.iter().find(|found| fits(adapter, &found.adapter_type)) else { return true };
        if !found.enabled || found.running {
            return !found.enabled;
        }
        let passing = |answer: &Observation| {
            let found = answer.adapters.iter().find(|found| fits(adapter, &found.adapter_type));
            found.is_some_and(|found| found.enabled && !found.running)
        };
        let earlier = answers.iter().rev().skip_while(|(earlier, _)| earlier > time);
        let began = earlier.take_while(|(_, answer)| passing(answer)).last().map_or(*time, |(time, _)| *time);
        at.0 - began.0 >= grace
    };
    let recent = answers.iter().filter(|(time, _)| time == last || *time >= at.plus(-LAG));
    if recent.into_iter().any(stopped) { Ok(()) } else { Err(format!("the last full answer says that {adapter} runs")) }
}

/// Whether a label value or port name (without its prefix) stands for an adapter type; one that does not fit its place
/// was cut and ends in a dash, an x and the first four digits of its SHA-256, so that types that are cut alike differ.
fn fits(name: &str, adapter_type: &str) -> bool {
    if name == adapter_type {
        return true;
    }
    let (kept, hash) = name.rsplit_once('-').unwrap_or(("", name));
    let digest = digest(&SHA256, adapter_type.as_bytes());
    let hashed = digest.as_ref().first_chunk().is_some_and(|[a, b]| hash == format!("x{a:02x}{b:02x}"));
    let plain: String =
        adapter_type.chars().map(|c| c.to_ascii_lowercase()).filter(char::is_ascii_alphanumeric).collect();
    hashed && plain.starts_with(kept)
}

/// A Go duration of whole numbers (`1m30s`, `250ms`), microseconds.
fn duration(text: &str) -> Option<i64> {
    let mut total = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        let units = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        total += number
            * match &rest[digits..units] {
                "h" => 3600 * Micros::SECOND,
                "m" => 60 * Micros::SECOND,
                "s" => Micros::SECOND,
                "ms" => 1000,
                "us" | "µs" => 1,
                _ => return None,
            };
        rest = &rest[units..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{OPERATOR, Run, judged};
    use super::*;
    use crate::audit::AdapterState;
    use serde_json::json;
    use std::time::{Duration, UNIX_EPOCH};

    fn answer(millis: u64, adapters: &[(&str, bool, bool)]) -> Observation {
        Observation {
            time: UNIX_EPOCH + Duration::from_millis(millis),
            namespace: "n".to_owned(),
            server: "files".to_owned(),
            adapters: adapters
                .iter()
                .map(|(name, enabled, running)| AdapterState {
                    adapter_type: (*name).to_owned(),
                    enabled: *enabled,
                    running: *running,
                })
                .collect(),
        }
    }

    fn removal(at: i64, timeline: Vec<Observation>) -> Run {
        let mut run = Run::new();
        run.owned_service("files-adapter-nfs", 5).at(1000);
        run.ours("delete", "services", "files-adapter-nfs")
            .at(at)
            .request(json!({"preconditions": {"uid": "uid-files-adapter-nfs"}}));
        run.facts.expect.timeline = Some(timeline);
        run
    }

    const RUNS: (&str, bool, bool) = ("nfs", true, true);
    const STOPPED: (&str, bool, bool) = ("nfs", false, false);
    const PASSES: (&str, bool, bool) = ("nfs", true, false);

    #[test]
    fn a_service_goes_when_a_full_answer_says_so() {
        for last in [vec![], vec![STOPPED], vec![("smb", true, true)]] {
            let run = removal(60_000, vec![answer(900, &[RUNS]), answer(59_000, &last)]);
            assert!(!judged(&run).contains(&Promise::S5), "{last:?}");
        }
    }

    #[test]
    fn a_service_that_goes_without_evidence_is_found() {
        let found = |timeline| judged(&removal(60_000, timeline)).contains(&Promise::S5);
        assert!(found(vec![]), "never any answer");
        assert!(found(vec![answer(900, &[RUNS])]), "it runs");
        assert!(found(vec![answer(900, &[STOPPED]), answer(50_000, &[RUNS])]), "it runs again");
        assert!(found(vec![answer(900, &[RUNS]), answer(60_500, &[])]), "the answer came later");
        let mut restarted = removal(60_000, vec![answer(900, &[])]);
        restarted.facts.starts = vec![Micros(0), Micros(30_000_000)];
        assert!(judged(&restarted).contains(&Promise::S5), "the answer was given to the run before");
    }

    #[test]
    fn a_write_of_a_killed_run_that_was_on_its_way_is_judged_by_what_that_run_knew() {
        let found = |last: &[(&str, bool, bool)], started: i64| {
            let mut run = removal(60_000, vec![answer(900, &[RUNS]), answer(59_000, last)]);
            run.facts.starts = vec![Micros(0), Micros(started)];
            judged(&run).contains(&Promise::S5)
        };
        assert!(!found(&[STOPPED], 59_700_000));
        assert!(found(&[RUNS], 59_700_000), "that run knew better");
        let mut late = removal(60_000, vec![answer(900, &[RUNS]), answer(50_000, &[STOPPED])]);
        late.facts.starts = vec![Micros(0), Micros(58_000_000)];
        assert!(judged(&late).contains(&Promise::S5), "long after the restart it is the new run's");
    }

    #[test]
    fn a_network_policy_goes_by_the_same_rule_or_when_policies_are_switched_off() {
        let found = |timeline: Vec<Observation>, off: bool| {
            let mut run = Run::new();
            run.owned_service("files-adapter-nfs", 5).at(1000);
            let mut policy = run.last_object();
            policy["metadata"]["labels"] =
                json!({"dittofs.io/adapter-networkpolicy": "true", "dittofs.io/adapter-type": "nfs"});
            run.facts.entries.pop();
            run.ours("create", "networkpolicies", "files-adapter-nfs").response(policy).at(1000);
            if off {
                let mut server = Run::server_object();
                server["spec"]["networkPolicy"] = json!({"enabled": false});
                server["metadata"]["resourceVersion"] = json!("6");
                run.ours_server("patch", "").response(server).at(2000);
                run.facts.entries.last_mut().unwrap().user = "admin".to_owned();
            }
            run.ours("delete", "networkpolicies", "files-adapter-nfs")
                .at(60_000)
                .request(json!({"preconditions": {"uid": "uid-files-adapter-nfs"}}));
            run.facts.expect.timeline = Some(timeline);
            judged(&run).contains(&Promise::S5)
        };
        assert!(found(vec![], false), "never any answer");
        assert!(found(vec![answer(900, &[RUNS])], false), "it runs");
        assert!(!found(vec![answer(900, &[STOPPED])], false));
        assert!(!found(vec![], true));
    }

    #[test]
    fn a_passage_counts_as_a_stop_after_the_grace_period() {
        let found = |began| {
            let timeline = vec![answer(900, &[RUNS]), answer(began, &[PASSES]), answer(59_500, &[PASSES])];
            judged(&removal(60_000, timeline)).contains(&Promise::S5)
        };
        assert!(!found(24_000));
        assert!(found(26_000));
    }

    #[test]
    fn container_ports_follow_the_same_rule() {
        let found = |adapters: &[(&str, bool, bool)]| {
            let mut run = Run::new();
            run.stateful_set(OPERATOR, 10, |_| {}).at(1000);
            run.stateful_set(OPERATOR, 11, |set| {
                set["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([]);
                set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(1);
            })
            .at(5000);
            run.facts.expect.timeline = Some(vec![answer(2000, adapters)]);
            judged(&run).contains(&Promise::S5)
        };
        assert!(!found(&[STOPPED]));
        assert!(found(&[RUNS]));
    }

    #[test]
    fn cut_names_stand_for_their_types() {
        assert!(fits("nfs", "nfs") && fits("o-x721f", "objectstorage") && fits("xbb72", "!"));
        assert!(!fits("o-x721f", "objectstore"), "another type that is cut alike");
        assert!(!fits("nfs", "smb") && !fits("p-x721f", "objectstorage"));
        assert_eq!(duration("1m30s500ms"), Some(90_500_000));
        assert_eq!(duration("soon"), None);
    }
}
