//! S8: no secret leaves: not in the log, not in events, status, ConfigMaps or any other object, nor in what was written
//! to such an object and is gone by now.

use super::{Broken, Promise, View, report};
use crate::audit::Canary;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use std::collections::BTreeSet;

pub(super) fn check(view: &View<'_>, broken: &mut Vec<Broken>) {
    // The same value may be known from several places: the first names it.
    let mut known = BTreeSet::new();
    let canaries: Vec<&Canary> = view.facts.canaries.iter().filter(|canary| known.insert(&canary.value)).collect();
    for canary in canaries {
        let forms = forms(&canary.value);
        let holds = |text: &str| forms.iter().any(|form| text.contains(form.as_str()));
        for (place, text) in &view.facts.texts {
            if let Some(line) = text.lines().position(holds) {
                let words = format!("the secret value of {} is in {place}, line {}", canary.origin, line + 1);
                report(broken, Promise::S8, words, &[]);
            }
        }
        for entry in view.writes().filter(|entry| !["secrets", "tokenreviews"].contains(&&*entry.object.resource)) {
            if holds(&entry.request.to_string()) {
                let words = format!("the secret value of {} was written to another object", canary.origin);
                report(broken, Promise::S8, words, &[entry]);
            }
        }
        for entry in &view.ours {
            if holds(&entry.uri) {
                report(broken, Promise::S8, format!("the secret value of {} is in a URL", canary.origin), &[]);
            }
        }
    }
}

/// The forms in which a value may be found: as it is, as JSON escapes it, and in both alphabets of base64.
fn forms(value: &str) -> BTreeSet<String> {
    let quoted = serde_json::Value::from(value).to_string();
    let escaped = quoted.trim_matches('"').to_owned();
    // The padding depends on what follows the value.
    let plain = |text: String| text.trim_end_matches('=').to_owned();
    [value.to_owned(), escaped, plain(STANDARD.encode(value)), plain(URL_SAFE.encode(value))].into()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Run, judged};
    use super::*;
    use serde_json::json;

    fn run() -> Run {
        let mut run = Run::new();
        run.facts.canaries.push(Canary { origin: "a test".to_owned(), value: "tr0ub4dor\"3".to_owned() });
        run.facts.texts.push(("the log".to_owned(), "all is well".to_owned()));
        run.ours("create", "secrets", "files-jwt-secret").request(json!({"stringData": {"x": "tr0ub4dor\"3"}}));
        run
    }

    #[test]
    fn a_secret_in_a_secret_is_fine() {
        assert!(!judged(&run()).contains(&Promise::S8));
    }

    #[test]
    fn a_secret_in_a_log_or_object_is_not() {
        let encoded = STANDARD.encode("tr0ub4dor\"3");
        for text in ["x tr0ub4dor\"3", r#"{"e":"tr0ub4dor\"3"}"#, &format!("x\ny {encoded}")] {
            let mut run = run();
            run.facts.texts.push(("the log".to_owned(), text.to_owned()));
            assert!(judged(&run).contains(&Promise::S8), "{text}");
        }
        let mut run = run();
        run.ours("create", "configmaps", "files-config").request(json!({"data": {"c": "key: tr0ub4dor\"3"}}));
        assert!(judged(&run).contains(&Promise::S8));
    }

    #[test]
    fn the_report_does_not_tell_the_secret() {
        let mut run = run();
        run.facts.texts.push(("the log".to_owned(), "tr0ub4dor\"3".to_owned()));
        let told: String = super::super::judge(&run.facts).iter().map(ToString::to_string).collect();
        assert!(told.contains("a test") && !told.contains("tr0ub4dor"), "{told}");
    }
}
