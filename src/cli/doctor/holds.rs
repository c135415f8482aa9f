//! What files of certificates are to those who trust them.

/// What a file of certificates is to those who trust it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It is not there.
    Missing,
    /// It is no file of certificates.
    Unusable(String),
    /// Who trusts it takes what the authority issues.
    Authority,
    /// Who trusts it does not.
    Others,
}
