//! Dropout as a layer.

use crate::graph::Graph;
use crate::ops::View;
use crate::ops::dropout::{Dropout, DropoutSite};

/// Appends dropout of `x`, where there is some; what is dropped is not kept for the backward pass, which can make it again.
///
/// # Examples
///
/// ```
/// use deepj::prelude::*;
///
/// let mut graph = Graph::without_params();
/// let x = graph.tensor("x", 4 * 100, Kind::Input);
/// // Four batch slots of 100 elements. Which are dropped follows from `Uniforms::seed` and `Uniforms::update`.
/// let y = dropped(&mut graph, x, DropoutSite { site: 1, rate: 0.5, inner: 100 });
/// assert_eq!(y.len, x.len);
/// assert_eq!(dropped(&mut graph, x, DropoutSite::NONE), x, "nothing is appended");
/// ```
pub fn dropped(g: &mut Graph, x: View, drop: DropoutSite) -> View {
    if drop.rate == 0.0 {
        return x;
    }
    let y = g.temp_as("dropped", x.len, x.format);
    g.apply(Dropout { len: x.len, drop, stored: x.format }, &[x, y]);
    g.drop_after_forward(y);
    y
}
