//! Families whose names come from what is read: found again by name, forgotten when they are read no more.

use std::collections::HashMap;

use protocol::FamilySelector;

use super::{Kind, Sample};

/// A family of this scrape, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named(pub(super) usize);

/// One family whose name was read.
#[derive(Debug)]
pub struct NamedFamily {
    /// The full name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// What it measures.
    pub help: String,
    /// Its samples of now.
    pub samples: Vec<Sample>,
    pub(super) is_wanted: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct NamedFamilies {
    pub(super) families: Vec<NamedFamily>,
    places: HashMap<String, usize>,
    selector: FamilySelector,
}

impl NamedFamilies {
    pub(super) fn new(selector: FamilySelector) -> Self {
        NamedFamilies { selector, ..NamedFamilies::default() }
    }

    /// The family of this name, new or known.
    pub(super) fn get(&mut self, name: &str, kind: Kind, help: &str) -> Named {
        if let Some(place) = self.places.get(name) {
            let family = &mut self.families[*place];
            // One that had no sample yet belongs to who names it now.
            if family.samples.is_empty() && (family.kind != kind || family.help != help) {
                family.kind = kind;
                help.clone_into(&mut family.help);
            }
            return Named(*place);
        }
        let place = self.families.len();
        self.places.insert(name.to_owned(), place);
        self.families.push(NamedFamily {
            name: name.to_owned(),
            kind,
            help: help.to_owned(),
            samples: Vec::new(),
            is_wanted: self.selector.exposes(name),
        });
        Named(place)
    }

    /// Empties them; those that had no sample this time are forgotten, so that names which come and go do not pile up.
    pub(super) fn clear(&mut self) {
        let before = self.families.len();
        self.families.retain(|family| !family.samples.is_empty() || !family.is_wanted);
        // What nobody wants has no samples to tell by: past a bound all of it is looked at anew.
        const MOST_UNWANTED: usize = 4096;
        if self.families.iter().filter(|family| !family.is_wanted).count() > MOST_UNWANTED {
            self.families.retain(|family| family.is_wanted);
        }
        if self.families.len() != before {
            self.places = self.families.iter().enumerate().map(|(i, f)| (f.name.clone(), i)).collect();
        }
        for family in &mut self.families {
            family.samples.clear();
        }
    }
}
