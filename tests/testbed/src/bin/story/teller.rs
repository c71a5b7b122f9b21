//! What the story prints: each line with its time since the start, in colour on a terminal, plain elsewhere.

use std::io::IsTerminal as _;
use std::time::Instant;

use dittofs_testbed::jaeger::Style;

/// Prints: in colour on a terminal, plain lines elsewhere.
pub(crate) struct Teller {
    start: Instant,
    colour: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Mark {
    New,
    Changed,
    Gone,
    Right,
    Wrong,
}

impl Teller {
    pub(crate) fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { start: Instant::now(), colour }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// How the trace is shown.
    pub(crate) fn style(&self) -> Style {
        if self.colour { Style::Colour } else { Style::Plain }
    }

    pub(crate) fn title(&self, text: &str) {
        println!("\n{}", self.paint("1", text));
    }

    pub(crate) fn line(&self, mark: Mark, text: &str) {
        let (code, sign) = match mark {
            Mark::New => ("32", "+"),
            Mark::Changed => ("33", "~"),
            Mark::Gone => ("31", "-"),
            Mark::Right => ("1;32", "✔"),
            Mark::Wrong => ("1;31", "✘"),
        };
        let at = format!("{:7.2} s", self.start.elapsed().as_secs_f64());
        println!("{}  {} {text}", self.paint("2", &at), self.paint(code, sign));
    }

    pub(crate) fn took(&self, what: &str, begun: Instant) {
        self.line(Mark::Right, &format!("{what}: {:.2} s", begun.elapsed().as_secs_f64()));
    }
}
