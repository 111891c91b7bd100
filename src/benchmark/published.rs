//! Published figures, each as its source prints it. A figure that could not be read in its source is not here.

use std::fmt;

use serde::Serialize;

use super::bl2012::Set;

/// What of a test set a figure is a mean over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Convention {
    /// The log-likelihood, all time steps of all sequences pooled.
    Pooled,
    /// A lower bound on it: the log-likelihood itself may be higher.
    PooledBound,
}

impl fmt::Display for Convention {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Pooled => "pooled",
            Self::PooledBound => "pooled, a lower bound",
        })
    }
}

/// A published row: the test log-likelihood of a model in nats a time step, summed over 88 keys, on each set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// The model, as the source calls it.
    pub model: &'static str,
    /// By set, in the order of [`Set::ALL`].
    pub values: [f64; Set::ALL.len()],
    /// Decimals that the source prints.
    pub decimals: usize,
    /// What they are means over.
    pub convention: Convention,
    /// Where they are printed.
    pub source: &'static str,
    /// What else is to be said of the value on a set.
    pub remark: Option<(Set, &'static str)>,
}

impl Published {
    /// The value on a set.
    pub fn on(&self, set: Set) -> f64 {
        let [jsb, piano_midi, nottingham, musedata] = self.values;
        match set {
            Set::Jsb => jsb,
            Set::PianoMidi => piano_midi,
            Set::Nottingham => nottingham,
            Set::MuseData => musedata,
        }
    }

    /// The remark on the value on a set, if there is one.
    pub fn remark_on(&self, set: Set) -> Option<&'static str> {
        self.remark.filter(|(of, _)| *of == set).map(|(_, remark)| remark)
    }
}

/// Boulanger-Lewandowski, Bengio and Vincent: Modeling temporal dependencies in high-dimensional sequences, ICML 2012.
const BL2012: &str = "Boulanger-Lewandowski et al. 2012, Table 1";
/// Krishnan, Shalit and Sontag: Structured inference networks for nonlinear state space models; printed there as upper bounds on
/// the negative log-likelihood, beside importance-sampled estimates and means over sequences.
const DMM: &str = "Krishnan et al. 2016, arXiv 1609.09869, Tables 3 and 4";

const fn row(model: &'static str, values: [f64; 4]) -> Published {
    Published { model, values, decimals: 2, convention: Convention::Pooled, source: BL2012, remark: None }
}

/// The note 1-gram, by which it is shown that a figure of ours is computed as the published ones were.
pub const ONE_GRAM: Published = row("Note 1-gram", [-11.06, -11.05, -10.25, -11.51]);

/// The rows, the worst first within a source.
pub const PUBLISHED: [Published; 7] = [
    ONE_GRAM,
    row("Note N-gram", [-10.26, -7.50, -4.54, -7.91]),
    row("RNN (HF)", [-8.58, -7.66, -3.89, -7.19]),
    row("RTRBM", [-6.35, -7.36, -2.62, -6.35]),
    row("RNN-RBM", [-6.27, -7.09, -2.39, -6.01]),
    Published {
        remark: Some((Set::Jsb, "Krishnan et al. 2016 quote it with -5.19")),
        ..row("RNN-NADE (HF)", [-5.56, -7.05, -2.31, -5.60])
    },
    Published {
        convention: Convention::PooledBound,
        decimals: 3,
        source: DMM,
        ..row("DMM-Aug-NADE", [-5.118, -7.048, -2.305, -6.049])
    },
];
