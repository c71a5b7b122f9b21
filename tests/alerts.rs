//! The alerts as promtool sees them: valid, and each is quiet, waits, fires and stops when `deploy/monitoring/tests` says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dittofs_dashboards::alerts::ALERTS;
use dittofs_dashboards::rules;
use dittofs_testbed::prometheus::promtool;
use serde_json::{Value, json};

const TESTS: &str = "deploy/monitoring/tests/alerts.yaml";

fn tests() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(TESTS)).expect("the tests of the alerts")
}

/// A directory with these rules and the tests beside them.
fn directory(name: &str, rules: &Value) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&directory).expect("a directory");
    std::fs::write(directory.join("rules.yaml"), rules.to_string()).expect("written");
    std::fs::write(directory.join("alerts.yaml"), tests()).expect("written");
    directory
}

/// Whether promtool is content, and what it said.
async fn ask(words: &[&str], file: &Path) -> (bool, String) {
    let file = file.to_string_lossy();
    let output = promtool(&[words, &[file.as_ref()]].concat(), "").await.expect("promtool runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn the_rules_are_valid_as_shipped_and_as_scaled_for_tests() {
    for factor in [1, 60] {
        let directory = directory(&format!("valid-{factor}"), &rules(factor));
        let (content, said) =
            ask(&["check", "rules", "--lint=all", "--lint-fatal"], &directory.join("rules.yaml")).await;
        assert!(content, "{said}");
        assert!(said.contains(&format!("{} rules found", ALERTS.len())), "{said}");
    }
}

#[tokio::test]
async fn each_alert_is_quiet_waits_fires_and_stops() {
    let (content, said) = ask(&["test", "rules"], &directory("shipped", &rules(1)).join("alerts.yaml")).await;
    assert!(content, "{said}");
}

/// The alert's number of firing series at each time that is tested, in minutes.
fn expected() -> BTreeMap<String, Vec<(u32, usize)>> {
    let file: Value = serde_yaml_ng::from_str(&tests()).expect("YAML");
    let mut expected: BTreeMap<String, Vec<(u32, usize)>> = BTreeMap::new();
    for test in
        file["tests"].as_array().expect("tests").iter().filter_map(|test| test["alert_rule_test"].as_array()).flatten()
    {
        let time = test["eval_time"].as_str().and_then(|time| time.strip_suffix('m')).expect("minutes");
        let firing = test["exp_alerts"].as_array().expect("a list").len();
        let alert = test["alertname"].as_str().expect("a name").to_owned();
        expected.entry(alert).or_default().push((time.parse().expect("a number"), firing));
    }
    expected
}

#[test]
fn no_alert_is_left_out() {
    let expected = expected();
    let names: BTreeSet<&str> = expected.keys().map(String::as_str).collect();
    assert_eq!(names, ALERTS.iter().map(|alert| alert.name).collect());
    for (alert, times) in expected {
        let firing: Vec<u32> = times.iter().filter(|(_, firing)| *firing > 0).map(|(time, _)| *time).collect();
        let (first, last) = (*firing.first().expect("it fires"), *firing.last().expect("it fires"));
        assert!(times.iter().any(|(time, firing)| *firing == 0 && *time < first), "{alert} is not quiet before");
        assert!(times.iter().any(|(time, firing)| *firing == 0 && *time > last), "{alert} does not stop");
    }
}

#[tokio::test]
async fn an_alert_that_is_mute_or_hasty_is_noticed() {
    for (number, alert) in ALERTS.iter().enumerate() {
        let mut mute = rules(1);
        mute["groups"][0]["rules"][number]["expr"] = json!("vector(0) > 1");
        let mut hasty = rules(1);
        hasty["groups"][0]["rules"][number]["for"] = json!("0s");
        let broken = [("mute", mute, true), ("hasty", hasty, alert.hold > 0)];
        for (what, rules, wrong) in broken.into_iter().filter(|(.., wrong)| *wrong) {
            let directory = directory(&format!("{what}-{}", alert.name), &rules);
            let (content, said) = ask(&["test", "rules"], &directory.join("alerts.yaml")).await;
            assert_eq!(content, !wrong, "{what} {}: {said}", alert.name);
            assert!(said.contains(alert.name), "{said}");
        }
    }
}
