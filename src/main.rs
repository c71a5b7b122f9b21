//! The process: reads the command line, installs what is global, runs one subcommand.
//!
//! Exit codes: see [`dittofs_operator::cli::EXIT_CODES`].

#![warn(clippy::unwrap_used, clippy::expect_used)]

use std::process::ExitCode;

use clap::Parser as _;
use dittofs_operator::check::{CheckError, check};
use dittofs_operator::cli::{CheckArgs, Cli, Command, RunArgs};
use dittofs_operator::run::{Options, RunError, run};
use dittofs_operator::telemetry::export::{Origin, Tracing};
use dittofs_operator::{build, crd, logging, webhook};

/// Many small JSON trees come and go on several threads: this allocator gives their pages back, glibc's keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Worker threads of the runtime: the work is waiting, and memory is paid for each.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Crd => print(&crd::crd_yaml()),
        Command::Rbac => print(&build::rbac_yaml()),
        Command::Webhook => print(&build::webhook_yaml()),
        Command::Run(arguments) => within_runtime(serve(*arguments)),
        Command::Check(arguments) => within_runtime(preview(arguments)),
    }
}

fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    // A reader that closed the pipe has read what it wanted.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn within_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("error: another TLS provider is installed");
        return ExitCode::FAILURE;
    }
    let runner = actix::System::with_tokio_rt(|| {
        // Without threads and timers nothing can run; there is no one to report to but the panic hook.
        #[expect(clippy::expect_used, reason = "the process cannot start without a runtime")]
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()
            .expect("cannot start the runtime")
    });
    runner.block_on(work)
}

async fn preview(arguments: CheckArgs) -> ExitCode {
    match check(arguments.namespace.as_deref().filter(|namespace| !namespace.is_empty())).await {
        Ok(report) => {
            print(&report.print(arguments.output));
            ExitCode::from(if report.is_quiet() { 0 } else { 4 })
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if matches!(error, CheckError::Connect(_)) { 3 } else { 1 })
        }
    }
}

/// Within the runtime, which the export of traces needs.
async fn serve(arguments: RunArgs) -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let origin = Origin {
        instance: arguments.instance.clone(),
        pod: variable("POD_NAME"),
        namespace: variable("POD_NAMESPACE"),
    };
    let wrong = |error: &dyn std::error::Error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    };
    let tracing = match Tracing::from_env(variable, &origin, arguments.trace_quiet_polls) {
        Ok(tracing) => tracing,
        Err(error) => return wrong(&error),
    };
    if let Err(error) = logging::init(&arguments.log, arguments.log_format, tracing.sdk_tracer()) {
        return wrong(&error);
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    let options = Options {
        namespace: arguments.namespace.filter(|namespace| !namespace.is_empty()),
        api_url_template: arguments.api_url_template,
        health_addr: arguments.health_addr,
        metrics_addr: arguments.metrics_addr,
        metrics_per_server: arguments.metrics_per_server,
        debug_addr: arguments.debug_addr,
        webhook: arguments.webhook.then_some(webhook::Settings {
            address: arguments.webhook_address,
            path: arguments.webhook_path,
            cert_dir: arguments.webhook_cert_dir,
        }),
        own_namespace: arguments.own_namespace.filter(|namespace| !namespace.is_empty()),
        instance: arguments.instance,
    };
    let ended = run(options, &tracing).await;
    let code = match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            match error {
                RunError::Connect(_) => ExitCode::from(3),
                RunError::Health { .. }
                | RunError::Metrics { .. }
                | RunError::Debug { .. }
                | RunError::Webhook { .. } => ExitCode::from(2),
                RunError::Http(_) | RunError::Signals(_) | RunError::Fatal(_) => ExitCode::FAILURE,
            }
        }
    };
    tracing.shutdown().await;
    code
}
