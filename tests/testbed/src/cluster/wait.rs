//! Waiting for conditions, never for time.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
pub const POLL: Duration = Duration::from_millis(50);

/// Looks at a condition every [`POLL`] until it gives a value, for at most `timeout`.
///
/// `look` gives the value, or in words why it is not so yet.
///
/// # Errors
/// When the time is over: names `what` and the last reason.
pub async fn wait_until<T>(
    what: &str,
    timeout: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    let mut reason = String::from("never looked to the end");
    while let Some(left) = timeout.checked_sub(start.elapsed()) {
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(why)) => reason = why,
            Err(_) => break,
        }
        tokio::time::sleep(POLL).await;
    }
    anyhow::bail!("after {:.1} s still waiting for: {what}; last: {reason}", start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_value_comes_as_soon_as_the_condition_holds() {
        let mut looks = 0;
        let value = wait_until("three looks", Duration::from_secs(10), async || {
            looks += 1;
            if looks < 3 { Err(format!("look {looks}")) } else { Ok(looks) }
        })
        .await;
        assert_eq!(value.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_condition_that_never_holds_names_the_last_reason() {
        let error = wait_until("the impossible", Duration::from_millis(120), async || {
            Err::<(), _>("pigs do not fly".to_owned())
        })
        .await
        .unwrap_err()
        .to_string();
        assert!(error.contains("the impossible") && error.contains("pigs do not fly"), "{error}");
    }

    #[tokio::test]
    async fn a_look_that_hangs_does_not_hang_the_test() {
        let waited = wait_until("an answer", Duration::from_millis(50), async || {
            std::future::pending::<Result<(), String>>().await
        });
        assert!(tokio::time::timeout(Duration::from_secs(5), waited).await.unwrap().is_err());
    }
}
