//! Dropout as a layer.

use crate::graph::Graph;
use crate::ops::View;
use crate::ops::dropout::{Dropout, DropoutSite};

/// Appends dropout of `x`, where there is some; what is dropped is not kept for the backward pass, which can make it again.
pub fn dropped(g: &mut Graph, x: View, drop: DropoutSite) -> View {
    if drop.rate == 0.0 {
        return x;
    }
    let y = g.temp_as("dropped", x.len, x.format);
    g.apply(Dropout { len: x.len, drop, stored: x.format }, &[x, y]);
    g.drop_after_forward(y);
    y
}
