// Runs the proof of the app that lies beside this program, and prints what its screen would show.

import Foundation
import SwiftUI

struct Shown: Encodable {
    struct Result: Encodable {
        let processor: String
        let agreeing: Int
        let samples: Int
        let largest: Float
        let typical: Double
        let troubles: [String]
    }

    let results: [Result]
    let cuts: [Double]
    let problems: [String]
    let exported: String
}

@MainActor
func prove() async throws -> Shown {
    let proof = Proof()
    await proof.run(try Plan.load())
    let results = proof.results.map {
        Shown.Result(processor: $0.processor, agreeing: $0.agreeing, samples: $0.outcomes.count,
                     largest: min($0.largest, 1e9), typical: min($0.typical, 1e9), troubles: $0.troubles)
    }
    return Shown(results: results, cuts: proof.cuts, problems: proof.problems,
                 exported: try proof.exported.map { try String(contentsOf: $0, encoding: .utf8) } ?? "")
}

FileHandle.standardOutput.write(try JSONEncoder().encode(try await prove()))
