//! Authorities and certificates of our own, as PEM files in a directory.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// An authority, and below it a certificate for `server` and one for `client`: `ca.pem`, `server.pem`, `server.key`,
/// `client.pem` and `client.key`.
pub(crate) fn write(directory: &Path, server: &str) {
    let put = |name: &str, text: String| std::fs::write(directory.join(name), text).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    put("ca.pem", authority.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(authority, key);
    for (owner, host) in [("server", server), ("client", "the-agent")] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        put(&format!("{owner}.pem"), certificate.pem());
        put(&format!("{owner}.key"), key.serialize_pem());
    }
}

/// The settings of TLS: whom to trust, and who we are if that is to be shown.
pub(crate) fn settings(trusted: &Path, own: Option<&Path>) -> spandrel_exporter::TlsSettings {
    let own = |name: &str| own.map(|directory| -> PathBuf { directory.join(name) });
    spandrel_exporter::TlsSettings {
        ca_file: Some(trusted.join("ca.pem")),
        cert_file: own("client.pem"),
        key_file: own("client.key"),
        ..Default::default()
    }
}
