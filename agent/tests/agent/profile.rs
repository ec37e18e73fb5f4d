//! What a profile leaves out is neither exposed nor read.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::collector::COLLECTORS;
use agent::config::Config;
use agent::plan::{Overlay, Plan};
use agent::scrape::Scraper;
use agent::telemetry::Telemetry;
use protocol::{
    DASHBOARDS, Digest, Facts, MINIMAL, MetricSelection, Policy, PolicyContent, Profile, Snapshot,
};

use crate::fixture::{Fixture, scrape};

fn plan(profile: Profile) -> Plan {
    let metrics = MetricSelection { profile: Some(profile), ..MetricSelection::default() };
    let policy = Policy::new("p", 0, PolicyContent { metrics, ..PolicyContent::default() });
    Plan::new(vec![policy], Facts::default(), &Default::default())
}

/// The names of the files of cgroups that a scrape under this profile reads, of both recorded interfaces.
fn files(profile: Profile) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for fixture in Fixture::all().iter().filter(|f| f.name.starts_with('v')) {
        let scraped = fixture.scrape_with(plan(profile));
        names.extend(scraped.files.iter().map(|f| f.file_name().unwrap().to_str().unwrap().to_owned()));
    }
    names
}

#[test]
fn what_a_profile_leaves_out_is_not_exposed_and_all_else_is() {
    let known: BTreeSet<&str> = COLLECTORS.iter().flat_map(|c| c.families).map(|f| f.name).collect();
    for fixture in Fixture::all().iter().filter(|f| f.name.starts_with('v')) {
        let names = |profile| -> BTreeSet<String> {
            fixture.scrape_with(plan(profile)).exposition.into_keys().collect()
        };
        let full = names(Profile::Full);
        for (profile, list) in [(Profile::Dashboards, DASHBOARDS), (Profile::Minimal, MINIMAL)] {
            let left = full.iter().filter(|f| {
                !f.starts_with("container_") || list.contains(&f.as_str()) || !known.contains(f.as_str())
            });
            assert_eq!(names(profile), left.cloned().collect(), "{profile:?} on {}", fixture.name);
        }
    }
}

#[test]
fn what_a_profile_leaves_out_is_not_read() {
    let (full, dashboards, minimal) =
        (files(Profile::Full), files(Profile::Dashboards), files(Profile::Minimal));
    assert!(minimal.is_subset(&full) && dashboards.is_subset(&full));
    let only_for = |file: &str| [&full, &dashboards, &minimal].map(|files| files.contains(file));
    assert_eq!(only_for("cpu.stat"), [true, true, true]);
    assert_eq!(only_for("io.stat"), [true, true, false]);
    assert_eq!(only_for("memory.peak"), [true, false, false]);
    assert_eq!(only_for("memory.oom_control"), [true, false, true]);
    assert_eq!(only_for("cpu.weight"), [true, false, false]);
}

/// The container families that are exposed.
fn containers(scraper: &Mutex<Scraper>) -> BTreeSet<String> {
    let families = scrape(&mut scraper.lock().unwrap()).into_keys();
    families.filter(|family| family.starts_with("container_")).collect()
}

/// An agent of a recorded node that waits for the operator.
fn waiting(fixture: &Fixture) -> (impl Drop, Arc<Mutex<Scraper>>, Config) {
    let (copy, scraper) = fixture.scraper(Plan::waiting(&Overlay::default()));
    let (scraper, telemetry) = (Arc::new(Mutex::new(scraper)), Arc::new(Telemetry::new().unwrap()));
    let config = Config::new(scraper.clone(), telemetry, Overlay::default(), None);
    (copy, scraper, config)
}

const WAIT: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn an_agent_that_nobody_tells_anything_shows_the_minimal_profile_after_its_time_and_not_before() {
    let fixture = Fixture::all().pop().unwrap();
    let (_copy, scraper, config) = waiting(&fixture);
    let mut after = tokio::spawn(config.default_after(WAIT));
    let early = tokio::time::timeout(WAIT - Duration::from_secs(1), &mut after).await;
    assert!(early.is_err(), "before its time");
    assert_eq!(containers(&scraper), [].into());
    after.await.unwrap();
    let shown = containers(&scraper);
    assert!(shown.contains("container_cpu_usage_seconds_total"), "{shown:?}");
    assert!(shown.iter().all(|family| MINIMAL.contains(&family.as_str())), "{shown:?}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_was_told_keeps_to_it_after_that_time() {
    let fixture = Fixture::all().pop().unwrap();
    let (_copy, scraper, config) = waiting(&fixture);
    let snapshot = Snapshot { node: "n".to_owned(), ..Snapshot::default() };
    config.take_up(snapshot, Digest::default(), "n");
    let told = containers(&scraper);
    assert!(told.len() > MINIMAL.len(), "{told:?}");
    config.default_after(WAIT).await;
    assert_eq!(containers(&scraper), told);
}
