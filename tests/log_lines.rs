//! `docs/logs.md` names every line that the operator writes at info and above, and every field. `UPDATE_GOLDEN=1` renews
//! the tables and keeps the meanings; a line without one fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/logs.md";
const MISSING: &str = "?";
/// What each line has.
const OURS: [&str; 6] = ["time", "level", "message", "target", "trace_id", "span_id"];

/// One line of the log, as the source has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    level: &'static str,
    message: String,
    fields: BTreeSet<String>,
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if entry.is_dir() {
            if name != "tests" && name != "testing" && !name.ends_with("_tests") {
                sources(&entry, found);
            }
        } else if entry.extension().is_some_and(|ending| ending == "rs") && !name.ends_with("tests.rs") {
            found.push(entry);
        }
    }
}

/// The arguments of a macro whose opening parenthesis was read, split at the outermost commas.
fn arguments(text: &str) -> Vec<String> {
    let (mut all, mut now, mut depth) = (Vec::new(), String::new(), 0);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                now.push('"');
                while let Some(inner) = letters.next() {
                    now.push(inner);
                    match inner {
                        '\\' => now.extend(letters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                all.push(std::mem::take(&mut now).trim().to_owned());
                continue;
            }
            _ => {}
        }
        now.push(letter);
    }
    all.push(now.trim().to_owned());
    all.retain(|argument| !argument.is_empty());
    all
}

fn line(level: &'static str, arguments: &[String]) -> Line {
    let message = arguments.iter().position(|argument| argument.starts_with('"'));
    let at = message.unwrap_or_else(|| panic!("a line without a message: {arguments:?}"));
    let message = arguments[at].trim_matches('"').to_owned();
    let fields = arguments[..at].iter().map(|argument| {
        let name = argument.split_once(" = ").map_or(argument.as_str(), |(name, _)| name);
        name.trim_start_matches(['%', '?']).to_owned()
    });
    Line { level, message, fields: fields.collect() }
}

fn lines() -> BTreeSet<Line> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut found = BTreeSet::new();
    for file in files {
        let source = std::fs::read_to_string(&file).expect("a source file");
        // What a module tests is at its end.
        let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        // Faults that tests switch on write what no operator writes.
        let code: String =
            code.lines().filter(|line| !line.trim_start().starts_with("//")).fold(String::new(), |mut text, line| {
                text.push_str(line);
                text.push('\n');
                text
            });
        for (level, start) in [("info", "info!("), ("warn", "warn!("), ("error", "error!(")] {
            for (at, _) in code.match_indices(start) {
                let line = line(level, &arguments(&code[at + start.len()..]));
                if !line.fields.contains("password") {
                    found.insert(line);
                }
            }
        }
    }
    found
}

/// Rows of the table below a heading: the first cell, without its quotes, and the last one.
fn meanings(page: &str, heading: &str) -> BTreeMap<String, String> {
    let table = page.split(heading).nth(1).unwrap_or_default();
    let table = table.split("\n## ").next().unwrap_or_default();
    let rows = table.lines().filter(|row| row.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        (cells[0].trim_matches('`').to_owned(), cells[cells.len() - 1].to_owned())
    })
    .collect()
}

#[test]
fn the_page_about_the_log_names_every_line_and_every_field() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(&path).expect("the page");
    let intro = page.split("\n## Fields\n").next().unwrap_or_default();
    let (fields, messages) = (meanings(&page, "\n## Fields\n"), meanings(&page, "\n## Messages\n"));
    let lines = lines();
    assert!(lines.len() > 25, "the sources are not read as they are written: {} lines", lines.len());

    let mut made = format!("{}\n\n## Fields\n\n| field | meaning |\n|---|---|\n", intro.trim_end());
    let used: BTreeSet<&str> = lines.iter().flat_map(|line| &line.fields).map(String::as_str).collect();
    let mut missing = Vec::new();
    let mut meaning = |known: &BTreeMap<String, String>, name: &str| {
        let meaning = known.get(name).filter(|meaning| *meaning != MISSING).cloned();
        meaning.unwrap_or_else(|| {
            missing.push(name.to_owned());
            MISSING.to_owned()
        })
    };
    for field in OURS.into_iter().chain(used.into_iter().filter(|name| !OURS.contains(name))) {
        let _ = writeln!(made, "| `{field}` | {} |", meaning(&fields, field));
    }
    made.push_str("\n## Messages\n\n| message | level | fields | meaning |\n|---|---|---|---|\n");
    for line in &lines {
        let names: Vec<String> = line.fields.iter().map(|field| format!("`{field}`")).collect();
        let meaning = meaning(&messages, &line.message);
        let _ = writeln!(made, "| `{}` | {} | {} | {meaning} |", line.message, line.level, names.join(", "));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &made).expect("the page can be written");
    } else {
        assert!(page == made, "{PAGE} is out of date. Run `make generate`, write what is new, and commit the result.");
    }
    assert!(missing.is_empty(), "{PAGE} has no meaning for {missing:?}");
}
