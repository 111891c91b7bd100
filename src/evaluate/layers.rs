//! What the layers of a network make of a piece, value by value: for those who compute it elsewhere and want to know where they
//! differ (docs/MODEL.md, "Looking into the network").

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{WINDOW, batch_shape, feed};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result, nearest};
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::graph::{Exposed, Kind, RowOrder, Session};
use crate::memory::available_memory;
use crate::models::Model;
use crate::music::{Batch, Evaluation, Piece, Roll};
use crate::ops::Uniforms;
use crate::shape::Slots;

/// What the network reads of each time step, `[T, N, C]`: the one before, silence before the first.
pub const NOTES: &str = "notes";
/// What it is to predict, `[T, N, C]`.
pub const TARGET: &str = "target";
/// The style as it is given, `[S]`.
pub const STYLE_VECTOR: &str = "style_vector";

/// What is asked of the layers of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// The piece that it reads.
    pub roll: Roll,
    /// A point in the simplex of styles; not looked at where the model knows none.
    pub style: Vec<f32>,
    /// Names among [`names`].
    pub layers: Vec<String>,
    /// The time step that is predicted; all of them where none is named.
    pub at: Option<usize>,
}

impl Inspection {
    /// # Errors
    /// A layer or time step that there is not, a piece without a time step, or a style of other styles than the model's.
    pub fn check(&self, model: &dyn Model) -> Result<()> {
        let Some(last) = self.roll.steps().checked_sub(1) else {
            return Err(Error::usage("a piece without a time step", "name one that has notes"));
        };
        if let Some(at) = self.at.filter(|&at| at > last) {
            return Err(Error::usage(format!("--at {at}"), format!("the piece has the time steps 0 to {last}")));
        }
        let (styles, given) = (model.roll().styles, self.style.len());
        if styles > 0 && given != styles {
            return Err(Error::usage(format!("a style of {given} weights"), format!("the model has {styles} styles")));
        }
        let known = names(model)?;
        match self.layers.iter().find(|name| !known.contains(name)) {
            Some(name) => {
                let remedy = nearest(name, known.iter().map(String::as_str).collect());
                Err(Error::usage(format!("the model has no layer `{name}`"), remedy))
            }
            None => Ok(()),
        }
    }
}

/// The values of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerValues {
    /// Its name.
    pub name: String,
    /// `[T, N, width]`, of one time step `[N, width]`; what is the same for the whole piece `[width]`.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// The names of what can be looked at: a model's inputs, then its layers in the order in which they are computed.
///
/// # Errors
/// A model that cannot be built.
pub fn names(model: &dyn Model) -> Result<Vec<String>> {
    let style = (model.roll().styles > 0).then_some(STYLE_VECTOR);
    let inputs = [NOTES, TARGET].into_iter().chain(style).map(String::from);
    Ok(inputs.chain(model.inspection(1)?.graph.exposed().iter().map(|layer| layer.name.clone())).collect())
}

/// The values of layers on a piece, without dropout, in the order in which they are asked for; `None` if `stop` was set meanwhile.
/// `progress` is told the number of time steps done so far.
///
/// # Errors
/// A layer or time step that there is not, more values than there is memory for, or a device that fails.
pub async fn layer_values(
    checkpoint: &Checkpoint,
    inspection: &Inspection,
    device: Device,
    selection: KernelSelection,
    stop: &AtomicBool,
    mut progress: impl FnMut(usize),
) -> Result<Option<Vec<LayerValues>>> {
    let model = checkpoint.model.as_ref();
    inspection.check(model)?;
    let steps = inspection.roll.steps();
    let shape = batch_shape(model, Slots::all(1), steps.min(WINDOW));
    let sequence = model.inspection(shape.steps)?;
    let roll = model.roll();
    let input = |name: &str| (inspection.layers.iter().any(|wanted| wanted == name)).then(|| name.to_string());
    let exposed = sequence.graph.exposed().iter();
    let exposed: Vec<Exposed> = exposed.filter(|layer| inspection.layers.contains(&layer.name)).cloned().collect();
    let mut collected: Vec<Collected> = vec![];
    let cells = roll.channels.len();
    collected.extend(input(NOTES).map(|name| Collected::new(name, RowOrder::TimeFirst, cells)));
    collected.extend(input(TARGET).map(|name| Collected::new(name, RowOrder::TimeFirst, cells)));
    collected.extend(input(STYLE_VECTOR).map(|name| Collected::new(name, RowOrder::Slots, roll.styles)));
    let inputs = collected.len();
    collected.extend(exposed.iter().map(|layer| Collected::new(layer.name.clone(), layer.order, layer.width)));
    let rows = roll.notes * if inspection.at.is_some() { 1 } else { steps };
    check_memory(&collected, rows)?;

    let (plan, io) = sequence.compile();
    let mut session = Session::new(device, selection);
    let program = session.add(plan).await?;
    let params = session.plan(program).buffer(Kind::Params);
    session.write(program, params, &checkpoint.weights())?;
    let piece = Piece { name: String::new(), style: 0, roll: inspection.roll.clone(), dynamics: true, mean_bpm: 120.0 };
    for (window, mut batch) in Evaluation::new(vec![Arc::new(piece)], shape)?.enumerate() {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if !batch.style.is_empty() {
            batch.style.clone_from(&inspection.style);
        }
        feed(&mut session, program, &io, &batch)?;
        session.run(program, 1, &Uniforms::default())?;
        // The time steps of this window that are wanted.
        let first = window * shape.steps;
        let of_window = first..(first + shape.steps).min(steps);
        progress(of_window.end);
        let wanted = match inspection.at {
            Some(at) if of_window.contains(&at) => at - first..at - first + 1,
            Some(_) => continue,
            None => 0..of_window.len(),
        };
        let views: Vec<_> = exposed.iter().map(|layer| layer.view).collect();
        let read = session.read(program, &views).await?;
        let given = inputs_of(&batch, &collected[..inputs], shape.steps);
        for (collected, values) in collected.iter_mut().zip(given.into_iter().chain(read)) {
            collected.add(&values, (shape.steps, roll.notes), wanted.clone());
        }
        if inspection.at.is_some() {
            break;
        }
    }
    let place = |values: &LayerValues| inspection.layers.iter().position(|name| *name == values.name);
    let mut values: Vec<_> =
        collected.into_iter().map(|layer| layer.finish(roll.notes, inspection.at.is_none())).collect();
    values.sort_by_key(place);
    Ok(Some(values))
}

/// The inputs of these names in a window.
fn inputs_of(batch: &Batch, named: &[Collected], steps: usize) -> Vec<Vec<f32>> {
    let step = batch.roll.len() / (steps + 1);
    let of = |name: &str| match name {
        NOTES => batch.roll[..steps * step].to_vec(),
        TARGET => batch.roll[step..].to_vec(),
        _ => batch.style.clone(),
    };
    named.iter().map(|input| of(&input.name)).collect()
}

/// # Errors
/// More values than there is memory for.
fn check_memory(collected: &[Collected], rows: usize) -> Result<()> {
    let values = |layer: &Collected| if layer.order == RowOrder::Slots { layer.width } else { rows * layer.width };
    // They are there twice where a file is made of them.
    let bytes = 2 * 4 * collected.iter().map(values).sum::<usize>() as u64;
    match available_memory() {
        Some(available) if bytes > available => {
            let mib = |bytes: u64| bytes >> 20;
            let what = format!("the values take {} MiB, and {} MiB are free", mib(bytes), mib(available));
            Err(Error::usage(what, "name fewer layers, or one time step by --at"))
        }
        _ => Ok(()),
    }
}

/// A layer's values so far.
struct Collected {
    name: String,
    order: RowOrder,
    width: usize,
    values: Vec<f32>,
}

impl Collected {
    fn new(name: String, order: RowOrder, width: usize) -> Self {
        Self { name, order, width, values: vec![] }
    }

    /// Appends the `wanted` time steps of a window of so many, on one slot.
    fn add(&mut self, window: &[f32], (steps, notes): (usize, usize), wanted: std::ops::Range<usize>) {
        if self.order == RowOrder::Slots {
            self.values = window[..self.width].to_vec();
            return;
        }
        let row = window.len() / (steps * notes);
        for step in wanted {
            for note in 0..notes {
                let place = if self.order == RowOrder::TimeFirst { step * notes + note } else { note * steps + step };
                self.values.extend_from_slice(&window[place * row..][..self.width]);
            }
        }
    }

    fn finish(self, notes: usize, all_steps: bool) -> LayerValues {
        let Self { name, order, width, values } = self;
        let steps = values.len() / (notes * width);
        let shape = match order {
            RowOrder::Slots => vec![width],
            _ if all_steps => vec![steps, notes, width],
            _ => vec![notes, width],
        };
        LayerValues { name, shape, values }
    }
}
