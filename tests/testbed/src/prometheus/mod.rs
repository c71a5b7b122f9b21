//! A real Prometheus as a child process, its query API, and promtool.
//!
//! Owns the process ([`Prometheus`]) and its data, which end with the handle. Answers are small typed values; numbers
//! are `f64`, times seconds since 1970.

mod answer;

pub use answer::{Alert, Rule, Sample, Series, Target};

use crate::backend::{self, Backend};
use crate::cluster::{built, wait_until};
use crate::port::free_port;
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// What Prometheus is to scrape and to evaluate.
#[derive(Clone, Debug, Default)]
pub struct PromConfig {
    /// Where metrics are.
    pub targets: Vec<ScrapeTarget>,
    /// How often, and how often rules are evaluated. A whole number of milliseconds, more than 0.
    pub scrape_interval: Duration,
    /// Files of rules. They are read again by [`Prometheus::reload`].
    pub rule_files: Vec<PathBuf>,
}

/// One place that serves `/metrics`.
#[derive(Clone, Debug, Default)]
pub struct ScrapeTarget {
    /// Label `job`. Targets of the same job are one scrape config.
    pub job: String,
    /// `host:port`.
    pub addr: String,
    /// More labels.
    pub labels: BTreeMap<String, String>,
}

impl PromConfig {
    /// The text of `prometheus.yml` (JSON is YAML).
    fn to_yaml(&self) -> String {
        let interval = format!("{}ms", self.scrape_interval.as_millis().max(1));
        let mut jobs: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for ScrapeTarget { job, addr, labels } in &self.targets {
            jobs.entry(job).or_default().push(json!({"targets": [addr], "labels": labels}));
        }
        let jobs: Vec<_> = jobs
            .into_iter()
            .map(|(job, targets)| {
                // A timeout longer than the interval is refused.
                json!({"job_name": job, "static_configs": targets, "scrape_timeout": interval})
            })
            .collect();
        json!({
            "global": {"scrape_interval": interval, "evaluation_interval": interval},
            "rule_files": self.rule_files,
            "scrape_configs": jobs,
        })
        .to_string()
    }
}

/// A running Prometheus on 127.0.0.1.
pub struct Prometheus {
    process: Backend,
    url: String,
}

impl Prometheus {
    /// Starts a Prometheus of its own and waits until it is ready. The program is `DITTOFS_PROMETHEUS`, else what
    /// `tests/prometheus/build.sh` builds and caches.
    ///
    /// # Errors
    /// When it cannot be built or started, or refuses its configuration; with the end of its log.
    pub async fn start(config: &PromConfig) -> anyhow::Result<Self> {
        let program = program().await?;
        let directory = Backend::directory("prometheus")?;
        std::fs::write(directory.path().join(CONFIG), config.to_yaml())?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let args = [
            format!("--config.file={CONFIG}"),
            "--storage.tsdb.path=data".to_owned(),
            format!("--web.listen-address={address}"),
            "--web.enable-lifecycle".to_owned(),
            "--enable-feature=exemplar-storage".to_owned(),
            "--log.level=warn".to_owned(),
        ];
        let url = format!("http://{address}");
        let process = Backend::start("prometheus", &program, &args, directory, &format!("{url}/-/ready")).await?;
        Ok(Self { process, url })
    }

    /// `http://…`: its API and page.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Takes another configuration, or the same with changed rule files.
    ///
    /// # Errors
    /// When it is refused; the former one holds then.
    pub async fn reload(&self, config: &PromConfig) -> anyhow::Result<()> {
        std::fs::write(self.process.path().join(CONFIG), config.to_yaml())?;
        let (code, body) = backend::ask(http::Method::POST, &format!("{}/-/reload", self.url)).await?;
        if code != 200 {
            bail!("Prometheus refuses the configuration: {body}\n{}", self.process.log_tail());
        }
        Ok(())
    }

    /// The value of an expression now: a vector, or a scalar as one sample without labels.
    ///
    /// # Errors
    /// When the expression is wrong, cannot be evaluated, or is a range vector or a string.
    pub async fn query(&self, expr: &str) -> anyhow::Result<Vec<Sample>> {
        let data = self.data("query", &[("query", expr.to_owned())]).await.with_context(|| expr.to_owned())?;
        answer::samples(&data).with_context(|| expr.to_owned())
    }

    /// The values of an expression from `lookback` ago until now, every `step`.
    ///
    /// # Errors
    /// When the expression is wrong or cannot be evaluated.
    pub async fn query_range(&self, expr: &str, lookback: Duration, step: Duration) -> anyhow::Result<Vec<Series>> {
        let now = backend::since_epoch();
        let query = [
            ("query", expr.to_owned()),
            ("start", now.saturating_sub(lookback).as_secs_f64().to_string()),
            ("end", now.as_secs_f64().to_string()),
            ("step", step.as_secs_f64().to_string()),
        ];
        let data = self.data("query_range", &query).await.with_context(|| expr.to_owned())?;
        answer::series(&data).with_context(|| expr.to_owned())
    }

    /// The alerts that are pending or firing.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn alerts(&self) -> anyhow::Result<Vec<Alert>> {
        answer::alerts(&self.data("alerts", &[]).await?)
    }

    /// The rules that are loaded, with the state of their last evaluation.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn rules(&self) -> anyhow::Result<Vec<Rule>> {
        answer::rules(&self.data("rules", &[]).await?)
    }

    /// What it scrapes.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn targets(&self) -> anyhow::Result<Vec<Target>> {
        answer::targets(&self.data("targets", &[]).await?)
    }

    /// Evaluates an expression until `judge` gives a value for its samples.
    ///
    /// # Errors
    /// When the time is over, with the last reason that `judge` gave or why the query failed.
    pub async fn wait_for<T>(
        &self,
        expr: &str,
        patience: Duration,
        judge: impl Fn(&[Sample]) -> Result<T, String>,
    ) -> anyhow::Result<T> {
        wait_until(expr, patience, async || {
            let samples = self.query(expr).await.map_err(|error| format!("{error:#}"))?;
            judge(&samples)
        })
        .await
    }

    /// Waits until an alert of that name fires.
    ///
    /// # Errors
    /// When the time is over, with the alerts that there are.
    pub async fn wait_firing(&self, alert: &str, patience: Duration) -> anyhow::Result<Alert> {
        wait_until(&format!("alert {alert}"), patience, async || {
            let alerts = self.alerts().await.map_err(|error| format!("{error:#}"))?;
            let firing = alerts.iter().find(|found| found.name == alert && found.firing).cloned();
            firing.ok_or_else(|| format!("{alerts:?}"))
        })
        .await
    }

    async fn data(&self, endpoint: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
        let url = backend::with_query(&format!("{}/api/v1/{endpoint}", self.url), query);
        let (code, body) = backend::get(&url).await.with_context(|| self.process.log_tail())?;
        let mut answer: Value = serde_json::from_str(&body).with_context(|| format!("{code}, not JSON: {body}"))?;
        if answer["status"] != "success" {
            bail!("{code}: {}", answer["error"].as_str().unwrap_or(&body));
        }
        Ok(answer["data"].take())
    }
}

const CONFIG: &str = "prometheus.yml";

/// Runs `promtool ARGS` with a text on stdin and gives what it printed, whatever its exit code: `check metrics` reads
/// the metrics from stdin, `check rules FILE…` and `test rules FILE…` read files. It is beside the program of
/// [`Prometheus::start`].
///
/// # Errors
/// When it cannot be built or run at all.
pub async fn promtool(args: &[&str], stdin: &str) -> anyhow::Result<Output> {
    let program = program().await?.with_file_name("promtool");
    let mut command = tokio::process::Command::new(&program);
    command.args(args).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("running {}", program.display()))?;
    let mut pipe = child.stdin.take().context("no stdin")?;
    let text = stdin.to_owned();
    let writer = tokio::spawn(async move {
        // One that does not read it, or stops at the first error, closes the pipe.
        let _ = pipe.write_all(text.as_bytes()).await;
    });
    let output = child.wait_with_output().await?;
    writer.abort();
    Ok(output)
}

async fn program() -> anyhow::Result<PathBuf> {
    let path = tokio::task::spawn_blocking(|| built("DITTOFS_PROMETHEUS", "tests/prometheus/build.sh")).await??;
    // Prometheus is started in a directory of its own.
    Path::new(&path).canonicalize().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_one_job_are_one_scrape_config() {
        let target = |job: &str, addr: &str| ScrapeTarget {
            job: job.to_owned(),
            addr: addr.to_owned(),
            labels: BTreeMap::from([("pod".to_owned(), format!("pod-{addr}"))]),
        };
        let config = PromConfig {
            targets: vec![target("a", "h:1"), target("b", "h:2"), target("a", "h:3")],
            scrape_interval: Duration::from_millis(250),
            rule_files: vec!["/r.yaml".into()],
        };
        let yaml: Value = serde_yaml_ng::from_str(&config.to_yaml()).unwrap();
        assert_eq!(yaml["global"], json!({"scrape_interval": "250ms", "evaluation_interval": "250ms"}));
        assert_eq!(yaml["rule_files"], json!(["/r.yaml"]));
        let jobs = yaml["scrape_configs"].as_array().unwrap();
        assert_eq!((jobs.len(), &jobs[0]["job_name"]), (2, &json!("a")));
        assert_eq!(jobs[0]["static_configs"][1], json!({"targets": ["h:3"], "labels": {"pod": "pod-h:3"}}));
    }
}
