//! A trace as a tree in text, no wider than [`WIDTH`] columns: for a person on call, and for the README.
//!
//! Pure. Each span is a line with its start (since the trace's) and its duration; below it what is worth reading of its
//! attributes, its error, its events and the spans that it follows.

use super::model::{Event, Node, Span, Trace, text};
use std::fmt::Write as _;

/// Columns.
pub(super) const WIDTH: usize = 100;

/// Columns of the tree with the names; start, duration and HTTP status take the rest.
const NAMES: usize = 72;

/// The attributes that are shown, in this order. One that is the parent's too is not repeated.
const SHOWN: [&str; 4] = ["dittofs.server", "dittofs.cause", "dittofs.decision", "dittofs.diff"];

/// The HTTP status, by its present name and its former one.
const STATUS: [&str; 2] = ["http.response.status_code", "http.status_code"];

/// Whether the text is for a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Without escape sequences.
    #[default]
    Plain,
    /// With colours, by ANSI escape sequences.
    Colour,
}

#[derive(Clone, Copy)]
enum Ink {
    Name,
    Frame,
    Detail,
    Error,
}

impl Style {
    fn paint(self, ink: Ink, text: &str) -> String {
        let code = match (self, ink) {
            (Self::Plain, _) => return text.to_owned(),
            _ if text.is_empty() => return String::new(),
            (Self::Colour, Ink::Name) => "1",
            (Self::Colour, Ink::Frame) => "2",
            (Self::Colour, Ink::Detail) => "36",
            (Self::Colour, Ink::Error) => "1;31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The trace as lines, each ended by a newline; steps of one parent by their start.
pub fn render(trace: &Trace, style: Style) -> String {
    lines(trace, trace.tree(), style)
}

/// As [`render`] without colours, but steps of one parent that ran side by side stand by their names: which of them
/// started first is chance, and this text is to be the same after each run.
pub fn render_steady(trace: &Trace) -> String {
    let mut roots = trace.tree();
    roots.iter_mut().for_each(by_name);
    lines(trace, roots, Style::Plain)
}

/// Sorts the children, which are in the order of their starts, by name within each stretch in which they overlap.
fn by_name(node: &mut Node<'_>) {
    let mut first = 0;
    let mut end = 0;
    for index in 0..=node.children.len() {
        let next = node.children.get(index).map(|child| child.span);
        if next.is_none_or(|span| span.start_us >= end) {
            node.children[first..index].sort_by_key(|child| &child.span.name);
            first = index;
        }
        end = end.max(next.map_or(0, Span::end_us));
    }
    node.children.iter_mut().for_each(by_name);
}

fn lines(trace: &Trace, roots: Vec<Node<'_>>, style: Style) -> String {
    let service = trace.spans.first().map_or("no service", |span| span.service.as_str());
    let many = if trace.spans.len() == 1 { "" } else { "s" };
    let mut out = format!(
        "trace {}  {}  {} span{many}  {}  {}\n",
        trace.trace_id,
        cut(service, 16),
        trace.spans.len(),
        duration(trace.duration_us()),
        clock(trace.start_us())
    );
    for root in roots {
        let mut writer = Writer { out: &mut out, style, trace };
        writer.node(&root, None, "", "");
    }
    out
}

struct Writer<'a> {
    out: &'a mut String,
    style: Style,
    trace: &'a Trace,
}

impl Writer<'_> {
    /// `first` stands before the span's own line, `rest` before all others that belong to it.
    fn node(&mut self, node: &Node<'_>, parent: Option<&Span>, first: &str, rest: &str) {
        let span = node.span;
        self.span_line(span, parent.is_none(), first);
        let inner = if node.children.is_empty() { format!("{rest}   ") } else { format!("{rest}│  ") };
        self.details(span, parent, &inner);
        for (index, child) in node.children.iter().enumerate() {
            let (branch, below) =
                if index + 1 == node.children.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.node(child, Some(span), &format!("{rest}{branch}"), &format!("{rest}{below}"));
        }
    }

    fn span_line(&mut self, span: &Span, root: bool, first: &str) {
        let mark = if span.error.is_some() { "✗ " } else { "" };
        let orphan = if root && span.parent.is_some() { " (its parent is missing)" } else { "" };
        let width = NAMES.saturating_sub(first.chars().count() + mark.chars().count() + orphan.chars().count());
        let name = cut(&span.name, width);
        let used = [first, mark, &name, orphan].iter().map(|part| part.chars().count()).sum::<usize>();
        let start = format!("+{}", duration(span.start_us.saturating_sub(self.trace.start_us())));
        let status = STATUS.iter().find_map(|key| span.tag(key)).unwrap_or_default();
        let ink = if span.error.is_some() { Ink::Error } else { Ink::Name };
        let line = format!(
            "{}{}{}{start:>10} {:>10}  {status}",
            self.style.paint(Ink::Frame, first),
            self.style.paint(ink, &format!("{mark}{name}{orphan}")),
            " ".repeat(NAMES.saturating_sub(used)),
            duration(span.duration_us),
        );
        self.line(&line);
    }

    fn details(&mut self, span: &Span, parent: Option<&Span>, before: &str) {
        for key in SHOWN {
            if let Some(value) = span.tag(key)
                && parent.and_then(|parent| parent.tag(key)).as_ref() != Some(&value)
            {
                let label = key.trim_start_matches("dittofs.");
                self.text(before, Ink::Detail, &format!("{label}: "), &value);
            }
        }
        if let Some(error) = &span.error {
            let kind = span.tag("error.type").map(|kind| format!(" ({kind})")).unwrap_or_default();
            let said = if error.is_empty() { "no description" } else { error };
            self.text(before, Ink::Error, "✗ ", &format!("{said}{kind}"));
        }
        for event in &span.events {
            self.text(before, Ink::Detail, "• ", &self.event(event));
        }
        for link in &span.links {
            let place = if link.trace_id == self.trace.trace_id {
                let name = self.trace.spans.iter().find(|other| other.span_id == link.span_id);
                name.map_or_else(|| "this trace".to_owned(), |other| format!("`{}`", other.name))
            } else {
                format!("trace {}", link.trace_id)
            };
            self.text(before, Ink::Detail, "↪ ", &format!("follows {place}, span {}", link.span_id));
        }
    }

    fn event(&self, event: &Event) -> String {
        let at = duration(event.at_us.saturating_sub(self.trace.start_us()));
        let mut said = format!("{} +{at}", event.name);
        for (key, value) in &event.fields {
            // A stack trace is for the backend's page.
            if key != "exception.stacktrace" {
                let _ = write!(said, " {key}={}", text(value));
            }
        }
        said
    }

    /// A label and a text that is broken between words; further lines stand below the text's first.
    fn text(&mut self, before: &str, ink: Ink, label: &str, text: &str) {
        let indent = label.chars().count();
        let room = WIDTH.saturating_sub(before.chars().count() + indent).max(20);
        for (index, part) in wrap(text, room).iter().enumerate() {
            let label = if index == 0 { label.to_owned() } else { " ".repeat(indent) };
            let line =
                format!("{}{}", self.style.paint(Ink::Frame, before), self.style.paint(ink, &format!("{label}{part}")));
            self.line(&line);
        }
    }

    fn line(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }
}

/// At most `room` columns, the end as `…` when something was left out.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

/// Lines of at most `room` columns, broken between words; a longer word is broken where the line ends.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for (index, piece) in letters.chunks(room).enumerate() {
            let gap = usize::from(used > 0 && index == 0);
            if used + gap + piece.len() > room {
                lines.push(String::new());
                used = 0;
            }
            if let Some(line) = lines.last_mut() {
                if used > 0 && index == 0 {
                    line.push(' ');
                    used += 1;
                }
                line.extend(piece);
                used += piece.len();
            }
        }
    }
    lines
}

/// A time of the day and its date, UTC; empty when there is none such.
fn clock(us: u64) -> String {
    let time = i64::try_from(us).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    time.map(|time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()).unwrap_or_default()
}

/// Microseconds in the unit that a person would take.
#[allow(clippy::cast_precision_loss)] // one decimal is shown
fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        1_000_000..100_000_000 => format!("{:.2} s", us as f64 / 1e6),
        _ => format!("{} s", us / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_fitting_unit() {
        let shown: Vec<_> = [0, 999, 1_000, 12_345, 1_500_000, 240_000_000].map(duration).to_vec();
        assert_eq!(shown, ["0 µs", "999 µs", "1.0 ms", "12.3 ms", "1.50 s", "240 s"]);
    }

    #[test]
    fn steps_side_by_side_stand_by_name_and_others_by_start() {
        let span = |id: &str, name: &str, start_us, duration_us| Span {
            span_id: id.to_owned(),
            name: name.to_owned(),
            start_us,
            duration_us,
            parent: (id != "0").then(|| "0".to_owned()),
            ..Span::default()
        };
        let names = |trace: &Trace| -> Vec<String> {
            let shown = render_steady(trace);
            let name = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
            shown.lines().filter(|line| line.contains("─ ")).filter_map(name).collect()
        };
        let root = span("0", "poll", 0, 5);
        let spans = |b: u64, a: u64| {
            vec![root.clone(), span("1", "z", 1, 2), span("2", "b", b, 30), span("3", "a", a, 3), span("4", "A", 60, 1)]
        };
        for (b, a) in [(10, 12), (12, 10)] {
            let trace = Trace { spans: spans(b, a), ..Trace::default() };
            let mut trace = Trace { trace_id: "t".to_owned(), ..trace };
            trace.spans.sort_by_key(|span| span.start_us);
            assert_eq!(names(&trace), ["z", "a", "b", "A"]);
        }
    }

    #[test]
    fn text_is_broken_between_words_and_long_words_inside() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(cut("abcdef", 4), "abc…");
    }
}
