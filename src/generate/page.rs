//! A page with composed pieces side by side: their rolls, their sound and what may be done with them, in one file that needs no
//! other.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::music::Roll;
use crate::music::svg::{self, Picture};
use crate::xml::escape;

/// A piece on the page.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its file's name.
    pub name: String,
    /// Its roll.
    pub roll: Roll,
    /// Quarter notes a minute.
    pub bpm: f64,
    /// Its sound, as a WAV file.
    pub sound: Vec<u8>,
    /// What else is said of it.
    pub texts: Vec<String>,
}

/// The page's style: columns side by side where there is room, dark where the reader's system is.
const STYLE: &str = "\
:root{color-scheme:light dark;font-family:system-ui,sans-serif;line-height:1.4}\
body{margin:1rem auto;max-width:110rem;padding:0 1rem}\
main{display:grid;gap:1.5rem;grid-template-columns:repeat(auto-fit,minmax(20rem,1fr))}\
audio{width:100%}figure{margin:.5rem 0;overflow:auto;max-height:32rem}svg{max-width:100%;height:auto}li{margin:.2rem 0}";

/// The page as HTML.
pub fn document(pieces: &[Listed]) -> String {
    let mut html = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut html, pieces);
    html
}

fn write(html: &mut String, pieces: &[Listed]) -> std::fmt::Result {
    writeln!(html, r#"<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">"#)?;
    writeln!(html, r#"<meta name="viewport" content="width=device-width"><title>Composed by deepj</title>"#)?;
    writeln!(html, "<style>{STYLE}</style></head><body><h1>Composed by deepj</h1><main>")?;
    for Listed { name, roll, bpm, sound, texts } in pieces {
        let picture = svg::draw(roll, &Picture { title: name, bpm: Some(*bpm), ..Picture::default() });
        // A title may be any text, and stands within an attribute's quotes.
        let name = escape(name).replace('"', "&quot;");
        let sound = STANDARD.encode(sound);
        writeln!(html, r#"<section><h2>{name}</h2>"#)?;
        writeln!(html, r#"<audio controls aria-label="{name}" src="data:audio/wav;base64,{sound}"></audio>"#)?;
        writeln!(html, r#"<figure role="img" aria-label="piano roll of {name}">{picture}</figure><ul>"#)?;
        for text in texts {
            writeln!(html, "<li>{}</li>", escape(text))?;
        }
        writeln!(html, "</ul></section>")?;
    }
    writeln!(html, "</main></body></html>")
}
