//! Keeps who the pods are up to date: at once when the kernel tells of a new cgroup, else every minute.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

use crate::health::Health;
use crate::scrape::Scraper;
use crate::source::kubelet::{Kubelet, KubeletError};
use crate::source::links;
use crate::telemetry::Telemetry;

/// How often new and ended cgroups are looked for where the kernel does not tell of them.
const TICK: Duration = Duration::from_secs(1);
/// For other than static pods the kubelet answers what the API server last said, which may change without a cgroup.
const REFRESH: Duration = Duration::from_secs(60);
/// While somebody is unknown, the kubelet is asked this often at the most; what comes within that time is taken up together.
const RETRY: Duration = Duration::from_millis(200);
/// A kubelet that cannot answer is left alone for a while, but not for as long as one that can.
const AFTER_ERROR: Duration = Duration::from_secs(2);

/// Runs until the program ends.
pub async fn run(
    scraper: Arc<Mutex<Scraper>>,
    kubelet: Option<Arc<Kubelet>>,
    rootfs: PathBuf,
    telemetry: Arc<Telemetry>,
    health: Health,
) {
    let (changed, changes) = Scraper::locked(&scraper, |s| {
        s.refresh();
        (s.changed(), s.changes())
    });
    #[expect(
        deprecated,
        reason = "unsound for what may close its handle by itself, which an `OwnedFd` does not"
    )]
    let mut changes = changes.and_then(|handle| AsyncFd::new(handle).ok());
    let mut asked: Option<Instant> = None;
    let mut last_error = String::new();
    // Of the tree when the kubelet was last asked: a container that has just started may look like a sandbox.
    let mut asked_of = 0;
    loop {
        let (unknown, generation) = Scraper::locked(&scraper, |s| (s.refresh(), s.generation()));
        if unknown > 0 {
            // Before the kubelet is asked, which may take longer than a row is withheld.
            Scraper::locked(&scraper, |s| s.set_links(links::containers(&rootfs)));
        }
        let is_new = unknown > 0 || generation != asked_of;
        if let Some(kubelet) = &kubelet
            && asked.is_none_or(|at| at.elapsed() >= pause(is_new, &last_error))
        {
            asked = Some(Instant::now());
            asked_of = generation;
            let pods = kubelet.pods().await;
            telemetry.kubelet(pods.as_ref().map(Vec::len));
            health.kubelet(pods.as_ref().map(drop));
            match pods {
                Ok(pods) => {
                    last_error.clear();
                    Scraper::locked(&scraper, |s| s.set_pods(pods));
                }
                Err(error) => log_once(&mut last_error, &error),
            }
        }
        let (unknown, is_watched) = Scraper::locked(&scraper, |s| (s.refresh(), s.is_watched()));
        tokio::time::sleep(RETRY).await;
        if unknown > 0 || (kubelet.is_some() && asked_of != generation && last_error.is_empty()) {
            continue;
        }
        changes = changes.filter(|_| is_watched);
        let most = if changes.is_some() { pause(false, &last_error) } else { TICK };
        tokio::select! {
            () = tokio::time::sleep(most) => {}
            () = changed.notified() => {}
            () = readable(changes.as_ref()) => {}
        }
    }
}

/// How long the kubelet is left alone.
fn pause(is_new: bool, last_error: &str) -> Duration {
    match (is_new, last_error.is_empty()) {
        (true, true) => RETRY,
        (_, false) => AFTER_ERROR,
        (false, true) => REFRESH,
    }
}

/// Waits for the kernel's word that something came or went; for ever where it does not tell.
async fn readable(changes: Option<&AsyncFd<OwnedFd>>) {
    match changes {
        // What is told from here on counts as new: all that was told before is about to be taken up.
        Some(handle) => match handle.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

fn log_once(last: &mut String, error: &KubeletError) {
    let text = error.to_string();
    if text != *last {
        tracing::warn!(reason = error.reason(), "kubelet: {text}; pods are known as they last were");
        *last = text;
    }
}
