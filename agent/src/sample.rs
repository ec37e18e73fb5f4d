//! Lets those collectors look each second that tell of what happens between two scrapes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::scrape::Scraper;

const SECOND: Duration = Duration::from_secs(1);

/// Runs until the program ends. While no collector wants it, it waits for another plan.
pub async fn run(scraper: Arc<Mutex<Scraper>>) {
    let planned = Scraper::locked(&scraper, |scraper| scraper.planned());
    let mut ticks = interval(SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !Scraper::locked(&scraper, Scraper::sample) {
            planned.notified().await;
        }
    }
}
