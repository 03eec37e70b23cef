// Resources: where the package finds its model, and its tests their samples.

import Foundation

enum Resources {
    /// The package's own bundle first; what is loaded beside it is the bundle of the tests.
    static var bundles: [Bundle] { [.module] + Bundle.allBundles }
    /// What the proof runs on; only the tests carry it.
    static let samples = "samples.json"
}
