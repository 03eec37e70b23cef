// Resources: where an app finds its model and its samples.

import Foundation

enum Resources {
    static var bundles: [Bundle] { [.main] }
    /// What the proof runs on.
    static let samples = "proof.json"
}
