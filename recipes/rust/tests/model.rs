//! A test that needs a file of a model: `hubcache run -- cargo test`.

use hf_hub::HFClientSync;

#[test]
fn the_configuration_is_there() {
    // The client reads HF_ENDPOINT and HF_HOME, which the run sets.
    let model = HFClientSync::new().unwrap().model("acme", "tiny");
    let path = model.download_file().filename("config.json").send().unwrap();
    let config = std::fs::read_to_string(path).unwrap();
    assert!(tests_with_a_model::length(&config) > 2, "{config}");
}
