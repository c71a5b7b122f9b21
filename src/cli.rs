//! The command line: every flag with its environment variable, and what the exit codes mean.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::build::{WEBHOOK_PATH, WEBHOOK_PORT};
use crate::dittofs::{DEFAULT_API_URL_TEMPLATE, UrlTemplate};

/// Exit codes, for `--help` and the README.
pub const EXIT_CODES: &str = "Exit codes:
  0  ended as asked (by SIGTERM or SIGINT, or the output was printed)
  1  an actor or the process could not go on; see the log
  2  the command line or the environment is wrong
  3  no connection to a cluster could be configured (KUBECONFIG, service account)
  4  check: something would be changed";

/// Kubernetes operator for DittoFS file servers.
///
/// It runs a DittoFS server for each DittoServer resource, watches which protocol adapters run in it, and keeps one
/// Service per running adapter and the StatefulSet's container ports in step with them.
#[derive(Debug, Parser)]
#[command(name = "dittofs-operator", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator until it is told to stop.
    ///
    /// The cluster is found as kubectl finds it: KUBECONFIG, ~/.kube/config, or the pod's service account.
    /// HTTP_PROXY and NO_PROXY are honoured for the DittoFS API.
    Run(Box<RunArgs>),
    /// Say what the operator would change, and which servers it would restart, and change nothing.
    ///
    /// For the hour before an upgrade, or before this operator takes over from another. Reads with the rights of the
    /// kubeconfig. What only a running server knows is not asked: adapters are taken to be those that have a Service.
    Check(CheckArgs),
    /// Print the CustomResourceDefinition as YAML.
    Crd,
    /// Print Service, ValidatingWebhookConfiguration, Issuer and Certificate of the optional webhook as YAML.
    Webhook,
    /// Print ServiceAccount, ClusterRole and binding as YAML: the rights that the operator needs, and no more.
    Rbac,
}

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Look at the DittoServers of this namespace only. Default: all namespaces.
    #[arg(long, short, env = "DITTOFS_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Form of the report.
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    pub output: crate::check::Output,
}

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Serve DittoServers of this namespace only. Default: all namespaces.
    #[arg(long, env = "DITTOFS_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// URL of a server's API, with {name}, {namespace} and {port}.
    #[arg(long, env = "DITTOFS_API_URL_TEMPLATE", value_name = "TEMPLATE", default_value = DEFAULT_API_URL_TEMPLATE)]
    pub api_url_template: UrlTemplate,
    /// Address of /healthz and /readyz.
    #[arg(long, env = "DITTOFS_HEALTH_ADDR", value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    pub health_addr: SocketAddr,
    /// Address of /metrics. Default: off.
    #[arg(long, env = "DITTOFS_METRICS_ADDR", value_name = "ADDRESS")]
    pub metrics_addr: Option<SocketAddr>,
    /// Add series that name each server to /metrics: for small fleets.
    #[arg(long, env = "DITTOFS_METRICS_PER_SERVER")]
    pub metrics_per_server: bool,
    /// Address of /debug/state, on localhost only: what every actor is doing, as JSON. Default: off.
    #[arg(long, env = "DITTOFS_DEBUG_ADDR", value_name = "ADDRESS", value_parser = crate::debug::loopback)]
    pub debug_addr: Option<SocketAddr>,
    /// Serve the validating admission webhook, which refuses what only the cluster can tell. Default: off.
    ///
    /// `dittofs-operator webhook` prints what the cluster needs for it; docs/webhook.md.
    #[arg(long, env = "DITTOFS_WEBHOOK")]
    pub webhook: bool,
    /// Address of the webhook.
    #[arg(long, env = "DITTOFS_WEBHOOK_ADDRESS", value_name = "ADDRESS",
        default_value_t = SocketAddr::from((Ipv4Addr::UNSPECIFIED, WEBHOOK_PORT)))]
    pub webhook_address: SocketAddr,
    /// Directory of the webhook's tls.crt and tls.key, read again while the process runs.
    #[arg(long, env = "DITTOFS_WEBHOOK_CERT_DIR", value_name = "DIRECTORY", default_value = "/webhook-cert")]
    pub webhook_cert_dir: PathBuf,
    /// Path of the webhook; one that cannot be guessed keeps others than the API server from asking.
    #[arg(long, env = "DITTOFS_WEBHOOK_PATH", value_name = "PATH", default_value = WEBHOOK_PATH,
        hide_env_values = true, value_parser = crate::webhook::path)]
    pub webhook_path: String,
    /// What to log: a level, or levels per module (`info,dittofs_operator::dittofs=debug`).
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info,kube_client=error")]
    pub log: String,
    /// Form of the log. Default: text on a terminal, JSON elsewhere.
    #[arg(long, env = "DITTOFS_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Export the traces of polls that found nothing new, too.
    ///
    /// Traces go to the OTLP collector that OTEL_EXPORTER_OTLP_ENDPOINT names; see docs/tracing.md for all OTEL_*
    /// variables.
    #[arg(long, env = "DITTOFS_TRACE_QUIET_POLLS")]
    pub trace_quiet_polls: bool,
    /// The operator's own namespace, which NetworkPolicies with `spec.networkPolicy.from` let in to the API port.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub own_namespace: Option<String>,
    /// Name of this instance in events. Default: the pod's name.
    #[arg(long, env = "HOSTNAME", value_name = "NAME", default_value = "dittofs-operator", hide = true)]
    pub instance: String,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
