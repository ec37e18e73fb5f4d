//! Keeps who the pods are up to date: on a new cgroup at once, else every half minute.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::health::Health;
use crate::scrape::Scraper;
use crate::source::kubelet::{Kubelet, KubeletError};
use crate::source::links;
use crate::telemetry::Telemetry;

/// How often new and ended cgroups are looked for; with watches this is one system call when there are none.
const TICK: Duration = Duration::from_secs(1);
/// For other than static pods the kubelet answers what the API server last said, which may change without a cgroup.
const REFRESH: Duration = Duration::from_secs(30);
/// While somebody is unknown, the kubelet is asked this often at the most.
const RETRY: Duration = Duration::from_millis(200);
/// A kubelet that cannot answer is left alone for a while, but not for as long as one that can.
const AFTER_ERROR: Duration = Duration::from_secs(2);

/// Runs until the program ends.
pub async fn run(
    scraper: Arc<Mutex<Scraper>>,
    kubelet: Option<Kubelet>,
    rootfs: PathBuf,
    telemetry: Arc<Telemetry>,
    health: Health,
) {
    let mut asked: Option<Instant> = None;
    let mut last_error = String::new();
    // Of the tree when the kubelet was last asked: a container that has just started may look like a sandbox.
    let mut asked_of = 0;
    loop {
        let (unknown, generation) = on_scraper(&scraper, |s| (s.refresh(), s.generation()));
        if unknown > 0 {
            // Before the kubelet is asked, which may take longer than a row is withheld.
            on_scraper(&scraper, |s| s.set_links(links::containers(&rootfs)));
        }
        let wait = match (unknown > 0 || generation != asked_of, last_error.is_empty()) {
            (true, true) => RETRY,
            (_, false) => AFTER_ERROR,
            (false, true) => REFRESH,
        };
        if asked.is_none_or(|at| at.elapsed() >= wait)
            && let Some(kubelet) = &kubelet
        {
            asked = Some(Instant::now());
            asked_of = generation;
            let pods = kubelet.pods().await;
            telemetry.kubelet(pods.as_ref().map(Vec::len));
            health.kubelet(pods.as_ref().map(drop));
            match pods {
                Ok(pods) => {
                    last_error.clear();
                    on_scraper(&scraper, |s| s.set_pods(pods));
                }
                Err(error) => log_once(&mut last_error, &error),
            }
        }
        let unknown = if unknown > 0 { on_scraper(&scraper, Scraper::refresh) } else { 0 };
        tokio::time::sleep(if unknown > 0 { RETRY } else { TICK }).await;
    }
}

/// The scraper may be busy for as long as a scrape takes, so it is waited for where waiting holds up nothing else.
fn on_scraper<T>(scraper: &Arc<Mutex<Scraper>>, act: impl FnOnce(&mut Scraper) -> T) -> T {
    tokio::task::block_in_place(|| act(&mut scraper.lock().unwrap_or_else(PoisonError::into_inner)))
}

fn log_once(last: &mut String, error: &KubeletError) {
    let text = error.to_string();
    if text != *last {
        tracing::warn!(reason = error.reason(), "kubelet: {text}; pods are known as they last were");
        *last = text;
    }
}
