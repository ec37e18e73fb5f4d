//! Keeps who the pods are up to date: on a new cgroup at once, else every half minute.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// Runs until the program ends.
pub async fn run(
    scraper: Arc<Mutex<Scraper>>,
    kubelet: Option<Kubelet>,
    rootfs: PathBuf,
    telemetry: Arc<Telemetry>,
) {
    let mut asked: Option<Instant> = None;
    let mut last_error = String::new();
    loop {
        let unknown = on_scraper(&scraper, Scraper::refresh).await;
        let due = asked.is_none_or(|at| at.elapsed() >= if unknown > 0 { RETRY } else { REFRESH });
        if due && let Some(kubelet) = &kubelet {
            asked = Some(Instant::now());
            let pods = kubelet.pods().await;
            telemetry.kubelet(pods.as_ref().map(Vec::len));
            match pods {
                Ok(pods) => {
                    last_error.clear();
                    on_scraper(&scraper, |s| s.pods().set_pods(pods)).await;
                }
                Err(error) => log_once(&mut last_error, &error),
            }
        }
        if unknown > 0 {
            let links = links::containers(&rootfs);
            on_scraper(&scraper, |s| s.pods().set_links(links)).await;
            let unknown = on_scraper(&scraper, Scraper::refresh).await;
            tokio::time::sleep(if unknown > 0 { RETRY } else { TICK }).await;
        } else {
            tokio::time::sleep(TICK).await;
        }
    }
}

/// The scraper may be busy for as long as a scrape takes, so it is waited for where waiting holds up nothing else.
async fn on_scraper<T: Send>(scraper: &Arc<Mutex<Scraper>>, act: impl FnOnce(&mut Scraper) -> T + Send) -> T {
    tokio::task::block_in_place(|| act(&mut scraper.lock().unwrap_or_else(PoisonError::into_inner)))
}

fn log_once(last: &mut String, error: &KubeletError) {
    let text = error.to_string();
    if text != *last {
        tracing::warn!(reason = error.reason(), "kubelet: {text}; pods are known as they last were");
        *last = text;
    }
}
