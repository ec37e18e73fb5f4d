//! Keeps what the kubelet says of storage up to date, as long as somebody scrapes it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::health::Health;
use crate::scrape::Scraper;
use crate::source::kubelet::{Kubelet, KubeletError};
use crate::telemetry::Telemetry;

/// The kubelet measures volumes once a minute, and an answer costs it as much as a scrape of all its containers.
const INTERVAL: Duration = Duration::from_secs(60);
/// An answer that costs the kubelet nothing, such as a refusal, may be asked for again sooner.
const AFTER_REFUSAL: Duration = Duration::from_secs(10);

/// Runs until the program ends.
pub async fn run(
    scraper: Arc<Mutex<Scraper>>,
    kubelet: Arc<Kubelet>,
    telemetry: Arc<Telemetry>,
    health: Health,
) {
    let demand = Scraper::locked(&scraper, |scraper| scraper.storage_demand());
    let mut last_error = String::new();
    loop {
        if !demand.is_raised() {
            health.kubelet_stats_unasked();
            telemetry.kubelet_stats_unasked();
            demand.wait().await;
        }
        let asked = Instant::now();
        let answer = kubelet.stats_summary().await;
        telemetry.kubelet_stats(answer.as_ref().map(drop));
        health.kubelet_stats(answer.as_ref().map(drop));
        let mut wait = INTERVAL;
        match answer {
            Ok(summary) => {
                last_error.clear();
                let now = Instant::now();
                Scraper::locked(&scraper, |scraper| scraper.set_stats(summary, now));
            }
            Err(error) => {
                if !matches!(error, KubeletError::Slow { .. } | KubeletError::Garbage { .. }) {
                    wait = AFTER_REFUSAL;
                }
                let text = error.to_string();
                if text != last_error {
                    tracing::warn!(
                        reason = error.reason(),
                        "kubelet: {text}; figures of storage stay as they last were for five minutes"
                    );
                    last_error = text;
                }
            }
        }
        tokio::time::sleep_until((asked + wait).into()).await;
    }
}
