// Proof: every bundled photo on every processor, compared with the expected answers, and written down.

import CoreML
import Foundation
import UIKit

@MainActor
final class Proof: ObservableObject {
    struct Result: Identifiable {
        let processor: String
        let compared: Int
        let agreeing: Int
        let largest: Float
        let milliseconds: Double
        let disagreements: [String]
        var id: String { processor }
    }

    /// What ``coreproof compare --import`` reads.
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

        let format = "coreproof device 1"
        let model: String
        let fingerprint: String
        let labels: [String]
        let device: Device
        let runs: [Run]
    }

    @Published var results: [Result] = []
    @Published var running = false
    @Published var progress = 0.0
    @Published var problem: String?
    @Published var exported: URL?

    func run(_ plan: Plan) async {
        (running, progress, problem, exported, results) = (true, 0, nil, nil, [])
        defer { running = false }
        var runs: [Export.Run] = []
        for (position, processor) in Processor.allCases.enumerated() {
            do {
                let predictor = try await Predictor(plan: plan, processor: processor)
                var tally = Tally(plan: plan)
                for (count, photo) in plan.photos.enumerated() {
                    let raster = try Picture.decode(Plan.resource(photo.seen))
                    tally.add(photo, try await predictor.predict(raster))
                    progress = (Double(position) + Double(count + 1) / Double(plan.photos.count)) / Double(Processor.allCases.count)
                }
                let first = try Picture.decode(Plan.resource(plan.photos[0].seen))
                let milliseconds = try await predictor.milliseconds(first)
                results.append(tally.result(processor.rawValue, milliseconds))
                runs.append(Export.Run(processor: processor.rawValue, milliseconds: milliseconds, scores: tally.scores))
            } catch {
                problem = "\(processor.rawValue): \(error.localizedDescription)"
            }
        }
        do { exported = try write(plan, runs) } catch { problem = error.localizedDescription }
    }

    private func write(_ plan: Plan, _ runs: [Export.Run]) throws -> URL {
        let device = UIDevice.current
        let export = Export(model: plan.model, fingerprint: plan.fingerprint, labels: plan.labels,
                            device: .init(name: device.model, machine: Proof.machine,
                                          system: "\(device.systemName) \(device.systemVersion)"),
                            runs: runs)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("device.json")
        try encoder.encode(export).write(to: url, options: .atomic)
        return url
    }

    /// "iPhone15,2": which chip it was matters more than the owner's name for it.
    private static var machine: String {
        var information = utsname()
        uname(&information)
        return withUnsafeBytes(of: &information.machine) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}

/// Agreement of one processor with the expected answers, photo by photo.
private struct Tally {
    let plan: Plan
    private(set) var scores: [String: String] = [:]
    private var compared = 0
    private var agreeing = 0
    private var largest: Float = 0
    private var disagreements: [String] = []

    init(plan: Plan) { self.plan = plan }

    mutating func add(_ photo: Plan.Photo, _ answer: Answer) {
        compared += 1
        if plan.kind == .classifier {
            scores[photo.name] = Floats.encode(answer.scores)
            guard let expected = photo.scores.flatMap(Floats.decode), expected.count == answer.scores.count else { return }
            let (here, there) = (Tally.best(answer.scores), Tally.best(expected))
            if here == there { agreeing += 1 } else { disagreements.append("\(photo.name): \(label(here)), expected \(label(there))") }
            note(answer.scores, expected)
        } else {
            for (name, file) in photo.outputs {
                guard let url = try? Plan.resource(file), let data = try? Data(contentsOf: url),
                      let here = answer.outputs[name] else { continue }
                note(here, Floats.decode(data))
            }
        }
    }

    func result(_ processor: String, _ milliseconds: Double) -> Proof.Result {
        Proof.Result(processor: processor, compared: compared, agreeing: agreeing, largest: largest,
                     milliseconds: milliseconds, disagreements: disagreements)
    }

    private mutating func note(_ here: [Float], _ there: [Float]) {
        guard here.count == there.count else { return disagreements.append("another number of values") }
        for (a, b) in zip(here, there) { largest = max(largest, (a - b).isNaN ? .infinity : abs(a - b)) }
    }

    private static func best(_ scores: [Float]) -> Int {
        scores.indices.max { scores[$0] < scores[$1] } ?? 0
    }

    private func label(_ index: Int) -> String {
        plan.labels.indices.contains(index) ? plan.labels[index] : "class \(index)"
    }
}
