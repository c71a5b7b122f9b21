//! Metrics made of rows of the [`table`](super::table): names, help and label names come from there and nowhere else.
//!
//! Guarantees: counting a series that is known allocates nothing; a value that its label does not list is a bug that
//! debug builds stop at.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel as _, EncodeLabelSet, EncodeLabelValue, EncodeMetric as _, LabelSetEncoder,
    LabelValueEncoder, MetricEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::table::{LabelDef, MetricDef, MetricKind, MetricUnit};

/// Upper bounds in seconds, from a cache hit to a call that ran into its deadline.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The value of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Value<'a> {
    /// A word.
    Word(&'a str),
    /// An HTTP status.
    Status(u16),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(word: &'a str) -> Self {
        Self::Word(word)
    }
}

impl EncodeLabelValue for Value<'_> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => word.encode(encoder),
            Self::Status(status) => status.encode(encoder),
        }
    }
}

/// The labels of one series; the names are the row's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a, const N: usize> {
    labels: &'static [LabelDef],
    values: [Value<'a>; N],
}

impl<'a, const N: usize> Values<'a, N> {
    pub(super) fn new(def: &'static MetricDef, values: [Value<'a>; N]) -> Self {
        debug_assert_eq!(def.labels.len(), N, "{}", def.name);
        for (label, value) in def.labels.iter().zip(&values) {
            let known = match value {
                Value::Word(word) => label.values.is_empty() || label.values.contains(word),
                Value::Status(_) => label.values.is_empty(),
            };
            debug_assert!(known, "{} has no {}={value:?}", def.name, label.name);
        }
        Self { labels: def.labels, values }
    }
}

impl<const N: usize> PartialEq for Values<'_, N> {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

impl<const N: usize> Eq for Values<'_, N> {}

impl<const N: usize> Hash for Values<'_, N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.values.hash(state);
    }
}

impl<const N: usize> EncodeLabelSet for Values<'_, N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (label, value) in self.labels.iter().zip(self.values) {
            (label.name, value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// Name without what the encoder adds: `_total`, `_info` and the unit.
fn base_name(def: &MetricDef) -> &'static str {
    let name = match def.kind {
        MetricKind::Counter => def.name.strip_suffix("_total").unwrap_or(def.name),
        MetricKind::Info => def.name.strip_suffix("_info").unwrap_or(def.name),
        MetricKind::Gauge | MetricKind::Histogram => def.name,
    };
    name.strip_suffix(def.unit.as_str()).and_then(|name| name.strip_suffix('_')).unwrap_or(name)
}

fn unit(def: &MetricDef) -> Option<Unit> {
    match def.unit {
        MetricUnit::None => None,
        MetricUnit::Seconds => Some(Unit::Seconds),
        MetricUnit::Bytes => Some(Unit::Bytes),
    }
}

fn register(registry: &mut Registry, def: &'static MetricDef, metric: impl prometheus_client::registry::Metric) {
    match unit(def) {
        None => registry.register(base_name(def), def.help, metric),
        Some(unit) => registry.register_with_unit(base_name(def), def.help, unit, metric),
    }
}

/// Counters of one row.
#[derive(Clone, Debug)]
pub(super) struct Counters<const N: usize> {
    def: &'static MetricDef,
    family: Family<Values<'static, N>, Counter>,
}

impl<const N: usize> Counters<N> {
    pub(super) fn new(registry: &mut Registry, def: &'static MetricDef) -> Self {
        let family = Family::default();
        register(registry, def, family.clone());
        Self { def, family }
    }

    /// All series at zero: a rate sees the first increase only of a series that was there before.
    pub(super) fn filled(registry: &mut Registry, def: &'static MetricDef) -> Self {
        let this = Self::new(registry, def);
        let combinations: usize = def.labels.iter().map(|label| label.values.len()).product();
        for number in 0..combinations {
            let mut rest = number;
            let mut values = [Value::Word(""); N];
            for (value, label) in values.iter_mut().zip(def.labels) {
                *value = Value::Word(label.values[rest % label.values.len()]);
                rest /= label.values.len();
            }
            drop(this.family.get_or_create(&Values::new(def, values)));
        }
        this
    }

    pub(super) fn inc(&self, values: [Value<'static>; N]) {
        self.family.get_or_create(&Values::new(self.def, values)).inc();
    }
}

/// Histograms of durations of one row.
#[derive(Clone, Debug)]
pub(super) struct Durations<const N: usize> {
    def: &'static MetricDef,
    family: Family<Values<'static, N>, Histogram>,
}

impl<const N: usize> Durations<N> {
    pub(super) fn new(registry: &mut Registry, def: &'static MetricDef) -> Self {
        let family = Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
        register(registry, def, family.clone());
        Self { def, family }
    }

    pub(super) fn observe(&self, values: [Value<'static>; N], duration: Duration) {
        self.family.get_or_create(&Values::new(self.def, values)).observe(duration.as_secs_f64());
    }
}

/// The histogram of durations of a row without labels.
pub(super) fn durations(registry: &mut Registry, def: &'static MetricDef) -> Histogram {
    let histogram = Histogram::new(SECONDS);
    register(registry, def, histogram.clone());
    histogram
}

/// One row whose values are found when it is scraped. Nothing is written for a row without values.
pub(super) fn scrape<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    def: &'static MetricDef,
    series: impl IntoIterator<Item = ([Value<'a>; N], f64)>,
) -> fmt::Result {
    let mut series = series.into_iter().peekable();
    if series.peek().is_none() {
        return Ok(());
    }
    let kind = match def.kind {
        MetricKind::Counter => MetricType::Counter,
        MetricKind::Gauge => MetricType::Gauge,
        MetricKind::Histogram | MetricKind::Info => MetricType::Unknown,
    };
    let unit = unit(def);
    let help = format!("{}.", def.help);
    let mut metric = encoder.encode_descriptor(base_name(def), &help, unit.as_ref(), kind)?;
    if N == 0 {
        return series.next().map_or(Ok(()), |(_, value)| number(metric, def, value));
    }
    for (values, value) in series {
        number(metric.encode_family(&Values::new(def, values))?, def, value)?;
    }
    Ok(())
}

fn number(mut encoder: MetricEncoder<'_>, def: &MetricDef, value: f64) -> fmt::Result {
    match def.kind {
        MetricKind::Counter => ConstCounter::new(value).encode(encoder),
        _ => encoder.encode_gauge(&value),
    }
}

/// A row that is always 1, with its labels.
pub(super) fn info<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    def: &'static MetricDef,
    values: [Value<'static>; N],
) -> fmt::Result {
    let help = format!("{}.", def.help);
    let mut metric = encoder.encode_descriptor(base_name(def), &help, None, MetricType::Info)?;
    metric.encode_info(&Values::new(def, values))
}
