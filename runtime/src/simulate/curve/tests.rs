use super::Library;

#[test]
fn the_shipped_figures_are_complete() {
    let library = Library::shipped().unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(library.inference_models("A100-SXM4-80GB").len(), 11);
    for model in library.inference_models("A100-SXM4-80GB") {
        let figures = library.inference(model, "A100-SXM4-80GB").unwrap();
        assert!([1, 2, 3, 4, 7].iter().all(|slices| figures.on(*slices).is_some()), "{model}");
    }
}
