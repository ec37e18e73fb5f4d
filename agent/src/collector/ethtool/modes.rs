//! The modes of a link, as the first 32 bits of ETHTOOL_LINK_MODE_* have them (include/uapi/linux/ethtool.h).

pub(super) const AUTONEGOTIATION: u32 = 6;
pub(super) const PAUSE: u32 = 13;
pub(super) const ASYMMETRIC_PAUSE: u32 = 14;

/// Kinds of ports.
pub(super) const PORTS: [(u32, &str); 6] =
    [(7, "TP"), (8, "AUI"), (9, "MII"), (10, "FIBRE"), (11, "BNC"), (16, "Backplane")];

/// Megabits per second, whether both sides send at once, and the name.
pub(super) const SPEEDS: [(u32, u32, &str, &str); 22] = [
    (0, 10, "half", "10baseT"),
    (1, 10, "full", "10baseT"),
    (2, 100, "half", "100baseT"),
    (3, 100, "full", "100baseT"),
    (4, 1_000, "half", "1000baseT"),
    (5, 1_000, "full", "1000baseT"),
    (12, 10_000, "full", "10000baseT"),
    (17, 1_000, "full", "1000baseKX"),
    (18, 10_000, "full", "10000baseKX4"),
    (19, 10_000, "full", "10000baseKR"),
    (20, 10_000, "full", "10000baseR_FEC"),
    (21, 20_000, "full", "20000baseMLD2"),
    (22, 20_000, "full", "20000baseKR2"),
    (23, 40_000, "full", "40000baseKR4"),
    (24, 40_000, "full", "40000baseCR4"),
    (25, 40_000, "full", "40000baseSR4"),
    (26, 40_000, "full", "40000baseLR4"),
    (27, 56_000, "full", "56000baseKR4"),
    (28, 56_000, "full", "56000baseCR4"),
    (29, 56_000, "full", "56000baseSR4"),
    (30, 56_000, "full", "56000baseLR4"),
    (31, 25_000, "full", "25000baseCR"),
];
