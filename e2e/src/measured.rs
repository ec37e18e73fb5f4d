//! An exporter while it is measured beside another.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::exporter::Exporter;

/// What has been seen of it so far.
#[derive(Debug)]
pub struct Measured<'a> {
    exporter: &'a Exporter,
    path: &'static str,
    before: Duration,
    latencies: Vec<Duration>,
    packed: usize,
}

/// What a scrape costs.
#[derive(Debug)]
pub struct Figures {
    /// The answer as text.
    pub text: String,
    /// The bytes of the last answer as it was sent.
    pub packed: usize,
    /// Processor time, mean.
    pub cpu: Duration,
    /// Median.
    pub latency: Duration,
    /// Memory after all of them, in bytes.
    pub resident: u64,
}

impl<'a> Measured<'a> {
    /// Scrapes it so often to warm up, and measures from then on.
    pub fn new(exporter: &'a Exporter, path: &'static str, warm_up: u32) -> Result<Self> {
        for _ in 0..warm_up {
            exporter.scrape(path)?;
        }
        let before = exporter.processor_time()?;
        Ok(Measured { exporter, path, before, latencies: Vec::new(), packed: 0 })
    }

    /// Scrapes it once.
    pub fn scrape(&mut self) -> Result<()> {
        let answer = self.exporter.scrape(self.path)?;
        let log = || self.exporter.log();
        ensure!(answer.status == 200, "status {}; its log ends with\n{}", answer.status, log());
        self.latencies.push(answer.took);
        self.packed = answer.body.len();
        Ok(())
    }

    /// What the scrapes have cost.
    pub fn figures(&mut self) -> Result<Figures> {
        let cpu = (self.exporter.processor_time()? - self.before) / self.latencies.len() as u32;
        let resident = self.exporter.resident()?;
        let text = self.exporter.text(self.path)?;
        self.latencies.sort();
        let latency = self.latencies[self.latencies.len() / 2];
        Ok(Figures { text, packed: self.packed, cpu, latency, resident })
    }
}
