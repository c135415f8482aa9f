//! Why no head of a response came, as far as the layers below tell. Pure.

use std::error::Error;
use std::io;

use super::connect::ConnectError;

/// What stood between a request and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The host has no address.
    NoName,
    /// Nobody listens there.
    ConnectionRefused,
    /// No connection within the time limit.
    ConnectionTimeout,
    /// No way leads there.
    Unroutable,
    /// A certificate that is not trusted.
    Certificate,
    /// A certificate that is not valid at this time: by the clock of one side or the other.
    Untimely,
    /// The other side broke off the handshake.
    Alert,
    /// TLS failed otherwise.
    Tls,
    /// The parent proxy opens no tunnel.
    Parent,
    /// No connection for another reason.
    NoConnection,
    /// The connection ended before the head.
    Terminated,
    /// What came is not HTTP, or too large a head.
    Garbled,
    /// The one whose request is handed on did not send all of it: the hub has no part in that.
    Caller,
}

impl Trouble {
    /// What `error`, or what lies behind it, says.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        if let Some(found) = chain(error).find_map(specific) {
            return found;
        }
        let pooled = chain(error).find_map(|e| e.downcast_ref::<hyper_util::client::legacy::Error>());
        match pooled {
            Some(e) if !e.is_connect() => Self::Terminated,
            _ => Self::NoConnection,
        }
    }

    /// Its name in `Proxy-Status` (RFC 9209, section 2.3).
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NoName => "dns_error",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionTimeout => "connection_timeout",
            Self::Unroutable => "destination_ip_unroutable",
            Self::Certificate | Self::Untimely => "tls_certificate_error",
            Self::Alert => "tls_alert_received",
            Self::Tls => "tls_protocol_error",
            Self::Parent | Self::NoConnection => "destination_unavailable",
            Self::Terminated => "connection_terminated",
            Self::Garbled => "http_protocol_error",
            Self::Caller => "http_request_error",
        }
    }
}

/// An error and all that lies behind it.
pub(super) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| behind(e))
}

/// The next error of the chain. What an [`io::Error`] wraps is not its source: that is the source of what it wraps.
fn behind<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn specific(error: &(dyn Error + 'static)) -> Option<Trouble> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(match tls {
            rustls::Error::InvalidCertificate(why) if is_untimely(why) => Trouble::Untimely,
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                Trouble::Certificate
            }
            rustls::Error::AlertReceived(_) => Trouble::Alert,
            _ => Trouble::Tls,
        });
    }
    if let Some(http) = error.downcast_ref::<hyper::Error>() {
        return match http {
            e if e.is_parse() => Some(Trouble::Garbled),
            e if e.is_user() => Some(Trouble::Caller),
            _ => None,
        };
    }
    if let Some(io) = error.downcast_ref::<io::Error>() {
        return match io.kind() {
            io::ErrorKind::ConnectionRefused => Some(Trouble::ConnectionRefused),
            io::ErrorKind::TimedOut => Some(Trouble::ConnectionTimeout),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Some(Trouble::Unroutable),
            _ => None,
        };
    }
    match error.downcast_ref()? {
        ConnectError::NoName(_) => Some(Trouble::NoName),
        ConnectError::Parent { .. } => Some(Trouble::Parent),
        ConnectError::Denied(_) | ConnectError::NoHost => None,
    }
}

fn is_untimely(why: &rustls::CertificateError) -> bool {
    use rustls::CertificateError as E;
    matches!(why, E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_deep_in_wrapped_errors_is_found() {
        let tls = |e: rustls::Error| io::Error::other(io::Error::new(io::ErrorKind::InvalidData, e));
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let parent = ConnectError::Parent {
            place: crate::model::Place::parse("proxy.corp:3128", None).unwrap(),
            why: "407".to_owned(),
        };
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
        let cases = [
            (io::Error::from(io::ErrorKind::ConnectionRefused), Trouble::ConnectionRefused),
            (io::Error::other(io::Error::from(io::ErrorKind::TimedOut)), Trouble::ConnectionTimeout),
            (io::ErrorKind::NetworkUnreachable.into(), Trouble::Unroutable),
            (tls(unknown), Trouble::Certificate),
            (tls(expired), Trouble::Untimely),
            (io::Error::other(parent), Trouble::Parent),
            (tls(alert), Trouble::Alert),
            (tls(rustls::Error::DecryptError), Trouble::Tls),
            (io::Error::other(ConnectError::NoName(io::ErrorKind::NotFound.into())), Trouble::NoName),
            (io::Error::other("whatever"), Trouble::NoConnection),
        ];
        for (error, trouble) in cases {
            assert_eq!(Trouble::of(&error), trouble, "{error:?}");
        }
    }
}
