//! The gate around the pure ring: nothing under `src/crd`, `src/reconcile` and `src/build` knows an actor, a client, a
//! runtime, a clock, a source of randomness or the operating system. Tests inside these folders are free.

use std::fs;
use std::path::{Path, PathBuf};

const RING: [&str; 3] = ["src/crd", "src/reconcile", "src/build"];

/// What none of these files may name. A path ends at a character that cannot go on in a name.
const FORBIDDEN: &[&str] = &[
    "actix",
    "tokio",
    "reqwest",
    "hyper",
    "tower",
    "axum",
    "rand",
    "getrandom",
    "backoff",
    "futures",
    "tracing",
    "kube::Client",
    "kube::Api",
    "kube::Config",
    "kube::api",
    "kube::client",
    "kube::config",
    "kube::runtime",
    "kube_client",
    "kube_runtime",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "std::io",
    "std::sync::mpsc",
    "std::time::Instant",
    "std::time::SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "crate::actors",
    "crate::cluster",
    "crate::dittofs",
    "crate::run",
    "crate::cli",
    "crate::fault",
    "crate::health",
    "crate::backoff",
];

/// Names that a test file in the ring has.
fn is_test_file(path: &Path) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with("tests") || matches!(name, "golden" | "fixtures")
}

/// The source without comments, text literals and the test modules at its end, lines kept.
fn code_of(source: &str) -> Vec<String> {
    source
        .lines()
        .scan(false, |tests, line| {
            // Only a test module ends the code: an item behind `#[cfg(test)]` in its middle does not.
            *tests |= line.starts_with("mod tests {");
            Some(if *tests { String::new() } else { without_text(line) })
        })
        .collect()
}

/// The line up to its comment, with its text literals emptied.
fn without_text(line: &str) -> String {
    let (mut code, mut quoted, mut escaped, mut last) = (String::new(), false, false, ' ');
    for c in line.chars() {
        match (quoted, c) {
            (true, '"') if !escaped => quoted = false,
            (true, _) => escaped = c == '\\' && !escaped,
            (false, '"') if last != '\'' => {
                quoted = true;
                escaped = false;
            }
            (false, '/') if last == '/' => return code,
            (false, _) => code.push(c),
        }
        last = c;
    }
    code
}

/// `use a::{b, c::{d}};` as `a::b`, `a::c::d`, with the line on which each begins.
fn paths_of(code: &[String]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut prefixes: Vec<String> = Vec::new();
    let mut path = String::new();
    for (number, line) in code.iter().enumerate() {
        let chars: Vec<char> = line.chars().chain([' ']).collect();
        for (at, &c) in chars.iter().enumerate() {
            if c.is_alphanumeric() || c == '_' || c == ':' {
                path.push(c);
                continue;
            }
            // A space inside a path is allowed by the grammar, and ends no path that goes on with `::`.
            let goes_on = c == ' '
                && path != "use"
                && (path.ends_with("::") || chars[at..].iter().collect::<String>().trim_start().starts_with("::"));
            if goes_on {
                continue;
            }
            let whole = format!("{}{path}", prefixes.concat());
            match c {
                '{' => prefixes.push(if path.ends_with("::") { std::mem::take(&mut path) } else { String::new() }),
                '}' => drop(prefixes.pop()),
                _ => {}
            }
            if c != '{' || !whole.ends_with("::") {
                found.push((number + 1, whole));
            }
            path.clear();
        }
    }
    found.retain(|(_, path)| !path.is_empty());
    found
}

/// One line for each forbidden name in `source`.
fn violations(file: &str, source: &str) -> Vec<String> {
    let names = |path: &str, forbidden: &str| {
        let path = path.trim_start_matches("::");
        path.strip_prefix(forbidden).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            || forbidden.contains("::now") && path.ends_with(forbidden)
    };
    paths_of(&code_of(source))
        .into_iter()
        .filter_map(|(line, path)| {
            let forbidden = FORBIDDEN.iter().find(|forbidden| names(&path, forbidden))?;
            // A field or a variable of that name is none of ours to forbid; a path has a second part, or is imported.
            let imported = source.lines().nth(line - 1).is_some_and(|text| text.trim_start().starts_with("use "));
            (path.contains("::") || imported).then(|| format!("{file}:{line}: {path} ({forbidden} is not pure)"))
        })
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a folder entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test_file(&path) {
            found.push(path);
        }
    }
}

#[test]
fn the_pure_ring_names_nothing_of_the_other_two() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for folder in RING {
        let mut files = Vec::new();
        sources(&root.join(folder), &mut files);
        assert!(files.len() > 5, "{folder} has only {} files: does the gate look in the right place?", files.len());
        for path in files {
            let source = fs::read_to_string(&path).expect("a source file");
            let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            wrong.extend(violations(&shown, &source));
        }
    }
    assert!(wrong.is_empty(), "the pure ring is passed what it needs:\n{}", wrong.join("\n"));
}

#[test]
fn the_gate_sees_each_violation_and_its_line() {
    for (line, code) in [
        (1, "use actix::prelude::*;"),
        (1, "use actix;"),
        (2, "use serde_json::Value;\nuse kube::{CustomResource, Client};"),
        (3, "use kube::{\n    CustomResource,\n    runtime::watcher,\n};"),
        (1, "use std::time::{Duration, Instant};"),
        (1, "use std::{collections::BTreeMap, time::{Duration, SystemTime}};"),
        (1, "use ::tokio::sync::mpsc;"),
        (1, "fn now() -> u64 { std::time::SystemTime::now().into() }"),
        (1, "fn now() { std :: time :: Instant::now(); }"),
        (1, "let x: u8 = rand::random();"),
        (1, "let t = k8s_openapi::jiff::Timestamp::now();"),
        (1, "let v = std::env::var(\"HOME\");"),
        (1, "let c = reqwest::Client::new(); // comment"),
        (2, "// a comment\nuse crate::cluster::Cluster;"),
        (2, "#[cfg(test)]\nuse std::fs; // only a test module is a test"),
    ] {
        let found = violations("src/x.rs", code);
        assert_eq!(found.len(), 1, "{code}: {found:?}");
        assert!(found[0].starts_with(&format!("src/x.rs:{line}: ")), "{code}: {found:?}");
    }
}

#[test]
fn the_gate_lets_through_what_is_pure() {
    for code in [
        "//! No actix::Actor, no tokio::spawn here.",
        "use std::time::Duration;",
        "use kube::{CustomResource, KubeSchema};",
        "let text = \"std::fs::read and actix::Actor\";",
        "let rand = 1; let operand = rand + 1;",
        "use crate::build::config_map;",
        "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}",
        "use super::hyperbole::Tower; use my_tokio::x;",
    ] {
        assert_eq!(violations("src/x.rs", code), Vec::<String>::new(), "{code}");
    }
}
