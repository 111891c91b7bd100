//! Styles: composers in genres, mixtures of them, and paths from one mixture to another.
//!
//! A style is a point in the simplex over composers (DeepJ, Mao et al. 2018, section III-B): one-hot for a composer, the
//! uniform mean of its composers for a genre.

use serde::{Deserialize, Serialize};

use super::names::composed;
use crate::error::{Error, Result, closest};

/// A composer in a genre: one entry of the style vector. One composer in two genres has two entries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Composer {
    /// Name of the genre's folder.
    pub genre: String,
    /// Name of the composer's folder.
    pub name: String,
}

impl Composer {
    /// # Errors
    /// A name cannot stand in a style expression: it is empty, or holds `,`, `:`, `/` or `->`.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |part: &&String| {
            let part = part.as_str();
            part.trim().is_empty() || part.trim() != part || [",", ":", "/", "->"].iter().any(|s| part.contains(s))
        };
        match [&self.genre, &self.name].into_iter().find(wrong) {
            None => Ok(()),
            Some(part) => Err(Error::usage(
                format!("'{part}' cannot be the name of a genre or composer"),
                "rename the folder: no comma, colon or '->', no space at the ends",
            )),
        }
    }

    /// With both names in Unicode's composed normal form.
    fn composed(&self) -> Self {
        Self { genre: composed(&self.genre), name: composed(&self.name) }
    }
}

/// The composers that a model knows, in the order of its style vector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Composer>", into = "Vec<Composer>")]
pub struct Styles(Vec<Composer>);

impl TryFrom<Vec<Composer>> for Styles {
    type Error = Error;

    fn try_from(composers: Vec<Composer>) -> Result<Self> {
        Self::new(composers)
    }
}

impl From<Styles> for Vec<Composer> {
    fn from(styles: Styles) -> Self {
        styles.0
    }
}

impl Styles {
    /// The styles of `composers`, in this order.
    ///
    /// # Errors
    /// There is none, one comes twice, or a name cannot stand in a style expression: it is empty, or holds `,`, `:`, `/`
    /// or `->`.
    pub fn new(composers: Vec<Composer>) -> Result<Self> {
        if composers.is_empty() {
            return Err(Error::model("no composer is given", "a model needs at least one style"));
        }
        for (i, composer @ Composer { genre, name }) in composers.iter().enumerate() {
            composer.check()?;
            if composers[..i].contains(&composers[i]) {
                return Err(Error::model(format!("the composer {genre}/{name} is given twice"), "give each one once"));
            }
        }
        Ok(Self(composers))
    }

    /// The composers in the order of the style vector.
    pub fn composers(&self) -> &[Composer] {
        &self.0
    }

    /// The width S of the style vector, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "there is always a composer")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The index of a composer in the style vector; names compare in Unicode's normal form.
    pub fn index(&self, composer: &Composer) -> Option<usize> {
        let same = |known: &Composer| known == composer || known.composed() == composer.composed();
        self.0.iter().position(same)
    }

    /// The shortest name that means entry `i` only: the composer's, or genre/composer where two genres have that
    /// composer.
    pub fn label(&self, i: usize) -> String {
        let Composer { genre, name } = &self.0[i];
        if self.named(|composer| composer.name == *name).len() == 1 { name.clone() } else { format!("{genre}/{name}") }
    }

    /// The genres, each once, in the order of the style vector.
    pub fn genres(&self) -> Vec<&str> {
        let mut genres: Vec<&str> = Vec::new();
        for composer in &self.0 {
            if !genres.contains(&composer.genre.as_str()) {
                genres.push(&composer.genre);
            }
        }
        genres
    }

    fn named(&self, matches: impl Fn(&Composer) -> bool) -> Vec<usize> {
        (0..self.0.len()).filter(|&i| matches(&self.0[i])).collect()
    }

    /// The entries that `name` means: a composer (all entries of that name), genre/composer, or a genre. Letter case
    /// counts only where two names differ in nothing else; the Unicode form never does.
    fn entries(&self, name: &str) -> Result<Vec<usize>> {
        let full = |composer: &Composer| format!("{}/{}", composer.genre, composer.name);
        let loose = |a: &str| composed(a).to_lowercase() == composed(name).to_lowercase();
        let found = [
            self.named(|composer| composer.name == name || full(composer) == name),
            self.named(|composer| composer.genre == name),
            self.named(|composer| loose(&composer.name) || loose(&full(composer))),
            self.named(|composer| loose(&composer.genre)),
        ];
        found.into_iter().find(|entries| !entries.is_empty()).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> Error {
        let genres = self.genres();
        let list = genres.iter().map(|&genre| {
            let composers = self.named(|composer| composer.genre == genre);
            let names: Vec<&str> = composers.iter().map(|&i| self.0[i].name.as_str()).collect();
            format!("{genre} ({})", names.join(", "))
        });
        let list = list.collect::<Vec<_>>().join(", ");
        let known = (0..self.len()).map(|i| self.label(i)).chain(genres.iter().map(|genre| genre.to_string()));
        let hint = closest(name, known).map_or(String::new(), |known| format!("did you mean '{known}'? "));
        Error::usage(format!("'{name}' is no style of this model"), format!("{hint}it knows {list}"))
    }
}

/// A style that may change over a piece: stations in the simplex at equal distances, with straight lines between them.
#[derive(Clone, Debug, PartialEq)]
pub struct StylePath {
    /// `[stations, S]`, at least one; each sums to 1.
    stations: Vec<Vec<f32>>,
}

impl StylePath {
    /// Reads a style expression: a composer or a genre (`bach`, `classical/brahms`, `baroque`), a weighted mixture
    /// (`bach:0.7,chopin:0.3`; a weight left out is 1), or two or more of these joined by `->`. The second result holds
    /// notices for the user, such as weights that had to be normalised.
    ///
    /// # Errors
    /// A name is unknown (the nearest is suggested) or missing, a weight is no number, negative or not finite, or all
    /// weights of a mixture are zero.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> deepj::Result<()> {
    /// use deepj::music::{Composer, StylePath, Styles};
    ///
    /// let composer = |genre: &str, name: &str| Composer { genre: genre.into(), name: name.into() };
    /// let styles = Styles::new(vec![composer("baroque", "bach"), composer("romantic", "chopin")])?;
    /// let (path, _) = StylePath::parse("bach -> bach:1,chopin:3", &styles)?;
    /// assert_eq!(path.at(0.0), [1.0, 0.0]);
    /// assert_eq!(path.at(1.0), [0.25, 0.75]);
    /// assert!(StylePath::parse("chopain", &styles).unwrap_err().to_string().contains("chopin"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn parse(text: &str, styles: &Styles) -> Result<(Self, Vec<String>)> {
        let mut notices = Vec::new();
        let stations = text.split("->").map(|station| mixture(station, styles, &mut notices)).collect::<Result<_>>()?;
        notices.dedup();
        Ok((Self { stations }, notices))
    }

    /// Stations of the path, at least one.
    pub fn stations(&self) -> usize {
        self.stations.len()
    }

    /// Whether the style stays the same.
    pub fn is_constant(&self) -> bool {
        self.stations.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// The style at the part `f` of the piece, 0 its beginning, 1 its end (clamped): S weights that sum to 1.
    pub fn at(&self, f: f64) -> Vec<f32> {
        let last = self.stations.len() - 1;
        let place = if f.is_nan() { 0.0 } else { f.clamp(0.0, 1.0) * last as f64 };
        let from = (place as usize).min(last.saturating_sub(1));
        let part = (place - from as f64) as f32;
        let to = &self.stations[(from + 1).min(last)];
        self.stations[from].iter().zip(to).map(|(a, b)| a * (1.0 - part) + b * part).collect()
    }
}

/// One station: a comma-separated mixture.
fn mixture(text: &str, styles: &Styles, notices: &mut Vec<String>) -> Result<Vec<f32>> {
    const FORM: &str = "give for example bach, baroque, \"bach:0.7,chopin:0.3\" or \"bach -> chopin\"";
    let text = text.trim();
    let mut parts: Vec<(f64, Vec<usize>)> = Vec::new();
    let mut explicit = false;
    for item in text.split(',') {
        let (name, weight) = match item.split_once(':') {
            Some((name, weight)) => (name.trim(), Some(weight.trim())),
            None => (item.trim(), None),
        };
        if name.is_empty() {
            return Err(Error::usage(format!("a name is missing in the style '{text}'"), FORM));
        }
        let entries = styles.entries(name)?;
        let weight = match weight {
            None => 1.0,
            Some(weight) => {
                explicit = true;
                weight.parse::<f64>().ok().filter(|weight| weight.is_finite() && *weight >= 0.0).ok_or_else(|| {
                    Error::usage(
                        format!("'{weight}' cannot be the weight of {name}"),
                        "give a number from 0 up, for example bach:0.7",
                    )
                })?
            }
        };
        let composers: Vec<String> = entries.iter().map(|&i| styles.label(i)).collect();
        if entries.len() > 1 && entries.iter().all(|&i| styles.0[i].name == styles.0[entries[0]].name) {
            notices.push(format!("{name} stands for {} in equal parts", composers.join(" and ")));
        }
        parts.push((weight, entries));
    }
    let sum: f64 = parts.iter().map(|(weight, _)| weight).sum();
    if sum <= 0.0 || !sum.is_finite() {
        return Err(Error::usage(
            format!("the weights of the style '{text}' sum to {sum}"),
            "give at least one weight above 0, and none too large to add",
        ));
    }
    if explicit && (sum - 1.0).abs() > 1e-6 {
        // Without the digits that rounding of a sum of decimals leaves.
        let sum = (sum * 1e9).round() / 1e9;
        notices.push(format!("the weights of '{text}' summed to {sum}, normalised to 1"));
    }
    let mut weights = vec![0.0f64; styles.len()];
    for (weight, entries) in parts {
        for &i in &entries {
            // First by the sum: a part of the smallest weights would be 0.
            weights[i] += weight / sum / entries.len() as f64;
        }
    }
    Ok(weights.into_iter().map(|weight| weight as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn styles() -> Styles {
        let composer = |(genre, name): (&str, &str)| Composer { genre: genre.into(), name: name.into() };
        let names = [
            ("baroque", "bach"),
            ("baroque", "handel"),
            ("classical", "brahms"),
            ("romantic", "brahms"),
            ("romantic", "chopin"),
        ];
        Styles::new(names.map(composer).into()).unwrap()
    }

    fn at(text: &str, f: f64) -> Vec<f32> {
        StylePath::parse(text, &styles()).unwrap().0.at(f)
    }

    fn notices(text: &str) -> Vec<String> {
        StylePath::parse(text, &styles()).unwrap().1
    }

    fn refused(text: &str) -> String {
        StylePath::parse(text, &styles()).unwrap_err().to_string()
    }

    #[test]
    fn points() {
        assert_eq!(at("bach", 0.5), [1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(at(" BaCh ", 0.5), [1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(at("baroque", 0.0), [0.5, 0.5, 0.0, 0.0, 0.0]);
        assert_eq!(at("classical/brahms", 0.0), [0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(at("bach:0.7,chopin:0.3", 0.9), [0.7, 0.0, 0.0, 0.0, 0.3]);
        assert_eq!(at("bach,chopin", 0.9), [0.5, 0.0, 0.0, 0.0, 0.5]);
        assert_eq!(at("baroque:0.5,bach:0.5", 0.9), [0.75, 0.25, 0.0, 0.0, 0.0]);
        assert!(notices("bach").is_empty() && notices("bach,chopin").is_empty() && notices("baroque").is_empty());
    }

    #[test]
    fn normalised_and_said() {
        assert_eq!(at("bach:1,chopin:3", 0.0), [0.25, 0.0, 0.0, 0.0, 0.75]);
        assert_eq!(at("baroque:5e-324", 0.0), [0.5, 0.5, 0.0, 0.0, 0.0]);
        assert!(notices("bach:1,chopin:0.4")[0].contains("summed to 1.4"), "{:?}", notices("bach:1,chopin:0.4"));
    }

    #[test]
    fn a_name_in_two_genres() {
        assert_eq!(styles().label(0), "bach");
        assert_eq!(styles().label(2), "classical/brahms");
        assert_eq!(at("brahms", 0.0), [0.0, 0.0, 0.5, 0.5, 0.0]);
        assert!(notices("brahms")[0].contains("classical/brahms and romantic/brahms"));
    }

    #[test]
    fn paths() {
        let path = "bach -> chopin:1 -> baroque";
        assert_eq!(at(path, 0.0), at("bach", 0.0));
        assert_eq!(at(path, 0.25), [0.5, 0.0, 0.0, 0.0, 0.5]);
        assert_eq!(at(path, 0.5), at("chopin", 0.0));
        assert_eq!(at(path, 1.0), at("baroque", 0.0));
        assert_eq!(at(path, 7.0), at("baroque", 0.0));
        assert_eq!(at(path, -7.0), at("bach", 0.0));
        assert_eq!(at(path, f64::NAN), at("bach", 0.0));
        let (path, _) = StylePath::parse(path, &styles()).unwrap();
        for i in 0..=100 {
            assert!((path.at(f64::from(i) / 100.0).iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        assert!(!path.is_constant());
        assert!(StylePath::parse("bach -> bach", &styles()).unwrap().0.is_constant());
    }

    #[test]
    fn refusals() {
        assert!(refused("chopan").contains("'chopin'"), "{}", refused("chopan"));
        assert!(refused("chopan").contains("baroque (bach, handel), classical (brahms), romantic (brahms, chopin)"));
        assert!(refused("barok").contains("'baroque'"));
        assert!(!refused("xyz").contains("did you mean"));
        for text in
            ["", "bach,", "bach ->", "-> bach", ":1", "bach:", "bach:-1", "bach:NaN", "bach:inf", "bach:0", "bach:x"]
        {
            assert!(!refused(text).is_empty(), "{text}");
        }
        assert!(refused("bach:1e308,chopin:1e308").contains("inf"));
    }

    #[test]
    fn tables() {
        let composer = |genre: &str, name: &str| Composer { genre: genre.into(), name: name.into() };
        assert!(Styles::new(vec![]).is_err());
        assert!(Styles::new(vec![composer("a", "b"), composer("a", "b")]).is_err());
        assert!(Styles::new(vec![composer("a", "Bach, J. S.")]).is_err());
        assert!(serde_json::from_str::<Styles>("[]").is_err());
        let json = serde_json::to_string(&styles()).unwrap();
        assert_eq!(serde_json::from_str::<Styles>(&json).unwrap(), styles());
    }
}
