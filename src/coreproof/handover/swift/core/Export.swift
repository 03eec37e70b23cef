// Export: device.json, what `coreproof compare --import` reads.

import Foundation

struct Export: Encodable {
    struct Device: Encodable {
        let name: String
        let machine: String
        let system: String
    }

    struct Run: Encodable {
        let processor: String
        let milliseconds: Double
        let scores: [String: String]
    }

    static let version = "coreproof device 1"

    let format = Export.version
    let model: String
    let fingerprint: String
    let labels: [String]
    let device: Device
    let runs: [Run]

    func document() throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        return try encoder.encode(self)
    }
}
