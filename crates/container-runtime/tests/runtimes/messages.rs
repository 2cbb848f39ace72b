//! Messages as container runtimes encode them, with more fields than are read.

/// The labels that a kubelet writes.
pub(crate) const POD: [(&str, &str); 4] = [
    ("io.kubernetes.pod.namespace", "shop"),
    ("io.kubernetes.pod.name", "web-0"),
    (
        "io.kubernetes.pod.uid",
        "0a1b2c3d-0000-4000-8000-000000000001",
    ),
    ("io.kubernetes.container.name", "app"),
];

/// The image that a container of these tests runs, by its id.
pub(crate) const IMAGE: &str = "1e1e1c351de3f638ac2c382b16c85d8cfe931766594c86dfc132997ee5638a47";

/// A field of text or of a message within.
pub(crate) fn field(tag: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut out);
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

pub(crate) fn text(tag: u32, text: &str) -> Vec<u8> {
    field(tag, text.as_bytes())
}

/// A map.
pub(crate) fn map(tag: u32, entries: &[(&str, &str)]) -> Vec<u8> {
    let entry = |(key, value): &(&str, &str)| field(tag, &[text(1, key), text(2, value)].concat());
    entries.iter().flat_map(entry).collect()
}

/// A ContainerStatusResponse of the CRI (runtime.v1 of k8s.io/cri-api), as CRI-O fills it.
pub(crate) fn status_of_container(
    id: &str,
    image: &str,
    labels: &[(&str, &str)],
    image_id: &str,
) -> Vec<u8> {
    let status = [
        text(1, id),
        field(2, &text(1, "app")),
        field(8, &text(1, image)),
        text(9, "registry:5000/shop/web@sha256:d1d1"),
        map(12, labels),
        map(13, &[("io.kubernetes.container.hash", "7c")]),
        text(15, "/var/log/pods/shop_web-0_u/app/0.log"),
        text(17, image_id),
    ];
    field(1, &status.concat())
}

/// An ImageStatusResponse of the CRI.
pub(crate) fn status_of_image() -> Vec<u8> {
    let image = [
        text(1, IMAGE),
        text(2, "registry:5000/shop/web:1.4"),
        text(3, "registry:5000/shop/web@sha256:d1d1"),
    ];
    field(1, &image.concat())
}
