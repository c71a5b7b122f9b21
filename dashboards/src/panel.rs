//! The words in which a dashboard is written: rows of panels, each with its queries.
//!
//! Owns the types and the two selectors that queries share. Guarantees: a panel cannot be written without a title, a
//! description and a unit.

/// One dashboard.
#[derive(Debug)]
pub struct Dashboard {
    /// Name of the file, without `.json`; `dittofs-` and this is its uid.
    pub file: &'static str,
    /// Its name in Grafana.
    pub title: &'static str,
    /// What it answers.
    pub description: &'static str,
    /// Whether it is about one server, which `$namespace` and `$server` choose.
    pub of_one_server: bool,
    /// From top to bottom.
    pub rows: &'static [Row],
}

/// Panels under a heading.
#[derive(Debug)]
pub struct Row {
    /// The question that they answer.
    pub title: &'static str,
    /// From left to right; 24 columns are a line.
    pub panels: &'static [Panel],
}

/// How a panel draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One large number, or word, for each series.
    Stat,
    /// The name of each series whose value is 1.
    Words,
    /// Lines over time.
    Lines,
    /// Bars over time, stacked: what was counted between two points.
    Bars,
    /// Areas over time, stacked: parts of a whole.
    Areas,
    /// One line for each server, which leads to its dashboard and to its traces.
    Servers,
    /// Traces of the server, from Jaeger; its query is a search by tags.
    Traces,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Things a second.
    PerSecond,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// 0 to 1, shown in percent.
    Ratio,
    /// Only the labels matter.
    Label,
}

/// From this value on, this colour. Below the first step a panel is green.
pub type Step = (f64, &'static str);

/// One query.
#[derive(Debug)]
pub struct Query {
    /// PromQL. `@` stands for the selector of the operator, `@server` for that and the chosen server.
    pub source: &'static str,
    /// Grafana's legend; empty where the number is alone.
    pub legend: &'static str,
}

impl Query {
    /// The expression as Grafana gets it.
    pub fn expr(&self) -> String {
        self.source.replace("@server", SERVER_SELECTOR).replace('@', OPERATOR_SELECTOR)
    }
}

/// Matchers of every query.
const OPERATOR_SELECTOR: &str = r#"job=~"$job""#;
/// Matchers of the queries about one server.
const SERVER_SELECTOR: &str = r#"job=~"$job",server_namespace="$namespace",server="$server""#;

/// One panel.
#[derive(Debug)]
pub struct Panel {
    /// How it draws.
    pub kind: Kind,
    /// Its heading.
    pub title: &'static str,
    /// What it shows and what is bad.
    pub description: &'static str,
    /// What its values are.
    pub unit: Unit,
    /// Columns of 24.
    pub width: u8,
    /// Where it changes colour.
    pub steps: &'static [Step],
    /// What it asks.
    pub queries: &'static [Query],
}

/// A query.
pub(crate) const fn q(source: &'static str, legend: &'static str) -> Query {
    Query { source, legend }
}

/// A panel over time, a third of a line wide.
pub(crate) const fn lines(
    title: &'static str,
    unit: Unit,
    description: &'static str,
    queries: &'static [Query],
) -> Panel {
    Panel { kind: Kind::Lines, title, description, unit, width: 8, steps: &[], queries }
}

/// Counted things over time, a third of a line wide.
pub(crate) const fn bars(title: &'static str, description: &'static str, queries: &'static [Query]) -> Panel {
    Panel { kind: Kind::Bars, title, description, unit: Unit::Count, width: 8, steps: &[], queries }
}

/// A number, a sixth of a line wide.
pub(crate) const fn stat(title: &'static str, unit: Unit, description: &'static str, query: &'static [Query]) -> Panel {
    Panel { kind: Kind::Stat, title, description, unit, width: 4, steps: &[], queries: query }
}

impl Panel {
    pub(crate) const fn wide(mut self, width: u8) -> Self {
        self.width = width;
        self
    }

    pub(crate) const fn steps(mut self, steps: &'static [Step]) -> Self {
        self.steps = steps;
        self
    }

    pub(crate) const fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }
}
