//! Names of pitches in scientific pitch notation: middle C, MIDI pitch 60, is C4. Some makers of instruments call it
//! C3.

use crate::{Error, Result};

/// The pitch classes from C up, black keys as sharps.
const CLASSES: [&str; 12] = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"];

/// What a pitch may be, for the remedy of an error.
const ALLOWED: &str = "give a MIDI pitch 0..=127 or a name from C-1 to G9, such as C4 (middle C), F#5 or Bb3";

/// The name of MIDI pitch `pitch`, 0..=127: `C-1` to `G9`, black keys as sharps.
///
/// # Examples
///
/// ```
/// use deepj::music::pitch;
///
/// assert_eq!(pitch::name(60), "C4");
/// assert_eq!(pitch::name(70), "A#4");
/// ```
pub fn name(pitch: u8) -> String {
    format!("{}{}", CLASSES[usize::from(pitch % 12)], i16::from(pitch / 12) - 1)
}

/// Reads a MIDI pitch from its number (`60`) or its name: a letter of either case, at most one accidental (`#`, `♯`,
/// `b`, `♭`), and the octave -1..=9, which changes between B and C whatever the accidental (`Cb4` is `B3`).
///
/// # Errors
/// The text is neither, or means a pitch outside 0..=127.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::music::pitch;
///
/// assert_eq!((pitch::parse("60")?, pitch::parse("c#4")?, pitch::parse("D♭3")?), (60, 61, 49));
/// # Ok(())
/// # }
/// ```
pub fn parse(text: &str) -> Result<u8> {
    let text = text.trim();
    let number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match if number { Some(text.parse().unwrap_or(i16::MAX)) } else { of_name(text) } {
        Some(pitch @ 0..=127) => Ok(pitch as u8),
        Some(_) => Err(Error::usage(format!("'{text}' is outside the pitches of MIDI"), ALLOWED)),
        None => Err(Error::usage(format!("'{text}' is no pitch"), ALLOWED)),
    }
}

/// The MIDI pitch of a name, which may lie outside 0..=127; `None` if it is none.
pub(super) fn of_name(text: &str) -> Option<i16> {
    let (letter, accidental, octave) = split_letter(text)?;
    let (sign, digits) = octave.strip_prefix(['-', '−']).map_or((1, octave), |digits| (-1, digits));
    let octave = match digits.as_bytes() {
        [digit @ b'0'..=b'9'] => sign * i16::from(digit - b'0'),
        _ => return None,
    };
    (octave >= -1).then_some(12 * (octave + 1) + letter + accidental)
}

/// The letter that `text` begins with, in semitones above C, its accidental, -1..=1, and the rest of the text.
pub(super) fn split_letter(text: &str) -> Option<(i16, i16, &str)> {
    let mut rest = text.chars();
    let letter = match rest.next()?.to_ascii_uppercase() {
        'C' => 0,
        'D' => 2,
        'E' => 4,
        'F' => 5,
        'G' => 7,
        'A' => 9,
        'B' => 11,
        _ => return None,
    };
    let rest = rest.as_str();
    if let Some(rest) = rest.strip_prefix(['#', '♯']) {
        Some((letter, 1, rest))
    } else if let Some(rest) = rest.strip_prefix(['b', '♭']) {
        Some((letter, -1, rest))
    } else {
        Some((letter, 0, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pitch_is_read_from_its_name_and_its_number() {
        for pitch in 0..=127 {
            assert_eq!(parse(&name(pitch)).unwrap(), pitch);
            assert_eq!(parse(&name(pitch).to_lowercase()).unwrap(), pitch);
            assert_eq!(parse(&pitch.to_string()).unwrap(), pitch);
        }
        let known = [(0, "C-1"), (21, "A0"), (36, "C2"), (60, "C4"), (69, "A4"), (83, "B5"), (108, "C8"), (127, "G9")];
        for (pitch, text) in known {
            assert_eq!(name(pitch), text);
        }
    }

    #[test]
    fn accidentals_are_read_in_all_their_forms() {
        let known = [
            ("c#4", 61),
            ("Db3", 49),
            ("F♯5", 78),
            ("B♭3", 58),
            ("bb3", 58),
            ("b3", 59),
            ("B-1", 11),
            ("Cb4", 59),
            ("B#3", 60),
            ("E−1", 4),
            (" 60 ", 60),
        ];
        for (text, pitch) in known {
            assert_eq!(parse(text).unwrap(), pitch, "{text}");
        }
    }

    #[test]
    fn what_is_no_pitch_is_refused() {
        let none =
            ["", " ", "H4", "C", "C#", "C##4", "Cbb4", "C10", "C-2", "C+4", "C 4", "C4x", "♯4", "C--1", "-1", "4.5"];
        for text in none {
            let error = parse(text).unwrap_err();
            assert!(error.what.contains("is no pitch") && error.remedy.contains("C-1 to G9"), "{error}");
        }
        for text in ["128", "Cb-1", "G#9", "A9", "999", "99999999"] {
            let error = parse(text).unwrap_err();
            assert!(error.what.contains(text) && error.what.contains("outside"), "{error}");
            assert!(error.remedy.contains("0..=127") && error.remedy.contains("G9"), "{error}");
        }
    }
}
