//! The two texts in which metrics are served.
//!
//! The registry writes OpenMetrics. Prometheus' older text (0.0.4) differs in what is asked of it here: a counter's help
//! and type bear the name with `_total`, an info is a gauge named `_info`, and there are neither units nor an end mark.

/// A format of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What a client with this `Accept` header gets.
    pub fn accepted(accept: &str) -> Self {
        let wants = accept.split(',').any(|one| {
            let mut parts = one.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            // `q=0` says: anything but this.
            let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32)));
            media.eq_ignore_ascii_case("application/openmetrics-text") && !refused
        });
        if wants { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// `Content-Type` of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// OpenMetrics text as Prometheus text 0.0.4.
pub(super) fn to_prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 1024);
    let mut help: Option<&str> = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // Its name depends on the type, which comes next.
            help = Some(rest);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, words)) = help.take().and_then(|help| help.split_once(' ')) {
                push(&mut text, &["# HELP ", name, suffix, " ", words]);
            }
            push(&mut text, &["# TYPE ", name, suffix, " ", kind]);
        } else if !line.starts_with('#') {
            // Exemplars have no place here.
            push(&mut text, &[line.split_once(" # {").map_or(line, |(series, _)| series)]);
        }
    }
    text
}

fn push(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prometheus_asks_for_is_what_it_gets() {
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus_3), Format::OpenMetrics);
        for other in ["", "*/*", "text/plain", "application/openmetrics-text;q=0,text/plain"] {
            assert_eq!(Format::accepted(other), Format::Prometheus, "{other}");
        }
    }

    #[test]
    fn openmetrics_becomes_the_older_text() {
        let open = "# HELP a_seconds Busy.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                    a_seconds_total{x=\"1 # 2\"} 3.0 # {trace_id=\"ab\"} 1.0\n\
                    # HELP build Which.\n# TYPE build info\nbuild_info{version=\"1\"} 1\n# EOF\n";
        let old = "# HELP a_seconds_total Busy.\n# TYPE a_seconds_total counter\na_seconds_total{x=\"1 # 2\"} 3.0\n\
                   # HELP build_info Which.\n# TYPE build_info gauge\nbuild_info{version=\"1\"} 1\n";
        assert_eq!(to_prometheus(open), old);
    }
}
