//! One runtime of the test process, for everything that must outlive a single `#[tokio::test]` runtime.
//!
//! HTTP clients and listeners are bound to the runtime that they were made on; those of the test bed live here, so
//! that tests with runtimes of their own share them.

use std::future::Future;
use std::sync::OnceLock;
use tokio::runtime::Runtime;

/// The runtime. It is never shut down: it ends with the process.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        // An error means that a provider is installed already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("testbed")
            .enable_all()
            .build()
            .expect("a runtime can be made")
    })
}

/// Runs `work` on that runtime and waits for its result; dropping the returned future ends the work.
pub(crate) async fn run<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);
    impl<T> Drop for AbortOnDrop<T> {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let mut task = AbortOnDrop(runtime().spawn(work));
    match (&mut task.0).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
