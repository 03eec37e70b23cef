// Proof: every sample on every processor, compared with what coreproof answered, and written down for it.

import Foundation
import SwiftUI
import UIKit

/// One sample on one processor.
struct Outcome: Sendable {
    let sample: String
    /// The answer's scores, encoded; empty for a model that is no classifier.
    let scores: String
    /// Whether the likeliest class is the expected one; nil for a model that is no classifier.
    let sameClass: Bool?
    /// What is wrong, in words; empty where nothing is.
    let trouble: String
    let difference: Difference
}

extension Predictor {
    func examine(_ sample: Plan.Sample) throws -> Outcome {
        let answer = try look(sample).answer
        return plan.kind == .classifier ? try classified(sample, answer) : try measured(sample, answer)
    }

    private func classified(_ sample: Plan.Sample, _ answer: Answer) throws -> Outcome {
        guard let stored = sample.scores.flatMap(Floats.decode), stored.count == answer.scores.count else {
            throw Failure("\(sample.name): the answer has another number of classes than expected.")
        }
        let expected = plan.probabilities == nil ? stored : Classes(plan.labels).telling(stored, whole: plan.softmax)
        let (here, there) = (plan.label(Floats.best(answer.scores)), plan.label(Floats.best(expected)))
        var difference = Difference()
        _ = difference.add(answer.scores, expected: expected)
        return Outcome(sample: sample.name, scores: Floats.encode(answer.scores), sameClass: here == there,
                       trouble: here == there ? "" : "\(here), expected \(there)", difference: difference)
    }

    private func measured(_ sample: Plan.Sample, _ answer: Answer) throws -> Outcome {
        var difference = Difference()
        var trouble: [String] = []
        for (name, file) in sample.outputs.sorted(by: { $0.key < $1.key }) {
            let url = try Plan.resource(file)
            let expected = url.pathExtension == "png"
                ? try Picture.decode(url).pixels.map(Float.init) : Floats.decode(try Data(contentsOf: url))
            if !difference.add(answer.outputs[name] ?? [], expected: expected) {
                trouble.append("\(name): \(answer.outputs[name]?.count ?? 0) values, expected \(expected.count)")
            }
        }
        if difference.compared == 0, trouble.isEmpty { trouble.append("nothing could be compared") }
        return Outcome(sample: sample.name, scores: "", sameClass: nil, trouble: trouble.joined(separator: "; "),
                       difference: difference)
    }

    /// How far the app's own cut of a bundled photo lies from the verification's: the mean over all channels, of 255 levels.
    func cut(_ sample: Plan.Sample) throws -> Double? {
        guard let picture = plan.picture, let file = sample.file, let view = sample.seen else { return nil }
        let own = picture.fit(try Picture.decode(Plan.resource(file))).pixels
        let seen = try Picture.decode(Plan.resource(view)).pixels
        guard own.count == seen.count, !own.isEmpty else { return 255 }
        return Double(zip(own, seen).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) }) / Double(own.count)
    }
}

@MainActor
final class Proof: ObservableObject {
    struct Result: Identifiable {
        let processor: String
        let milliseconds: Double
        let outcomes: [Outcome]
        var id: String { processor }

        var agreeing: Int { outcomes.filter { $0.sameClass == true }.count }
        var largest: Float { outcomes.map(\.difference.largest).max() ?? 0 }
        var typical: Double { outcomes.map(\.difference.typical).max() ?? 0 }
        var troubles: [String] { outcomes.filter { !$0.trouble.isEmpty }.map { "\($0.sample): \($0.trouble)" } }
    }

    @Published private(set) var results: [Result] = []
    @Published private(set) var cuts: [Double] = []
    @Published private(set) var running = false
    @Published private(set) var progress = 0.0
    @Published private(set) var problems: [String] = []
    @Published private(set) var exported: URL?

    func run(_ plan: Plan) async {
        guard !running else { return }
        (running, progress, problems, exported, results, cuts) = (true, 0, [], nil, [], [])
        UIApplication.shared.isIdleTimerDisabled = true
        defer {
            running = false
            UIApplication.shared.isIdleTimerDisabled = false
        }
        for (position, processor) in Processor.allCases.enumerated() {
            do {
                let predictor = try await Predictor(plan, processor.units)
                if position == 0 { await measureCuts(plan, predictor) }
                var outcomes: [Outcome] = []
                for sample in plan.samples {
                    outcomes.append(try await predictor.examine(sample))
                    let done = Double(position) + Double(outcomes.count) / Double(plan.samples.count)
                    progress = done / Double(Processor.allCases.count)
                }
                guard let first = plan.samples.first else { throw Failure("The app carries no samples.") }
                let milliseconds = try await predictor.milliseconds(first)
                results.append(Result(processor: processor.rawValue, milliseconds: milliseconds, outcomes: outcomes))
            } catch {
                problems.append("\(processor.rawValue): \(error.localizedDescription)")
            }
        }
        do { exported = try write(plan) } catch { problems.append(error.localizedDescription) }
    }

    private func measureCuts(_ plan: Plan, _ predictor: Predictor) async {
        for sample in plan.samples {
            do {
                if let cut = try await predictor.cut(sample) { cuts.append(cut) }
            } catch {
                problems.append("\(sample.name): \(error.localizedDescription)")
            }
        }
    }

    private func write(_ plan: Plan) throws -> URL {
        let device = UIDevice.current
        let export = Export(
            model: plan.model, fingerprint: plan.fingerprint, labels: plan.labels,
            device: .init(name: device.model, machine: Proof.machine, system: "\(device.systemName) \(device.systemVersion)"),
            runs: results.map { result in
                let answered = result.outcomes.filter { !$0.scores.isEmpty }.map { ($0.sample, $0.scores) }
                return .init(processor: result.processor, milliseconds: result.milliseconds,
                             scores: Dictionary(uniqueKeysWithValues: answered))
            })
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("device.json")
        try export.document().write(to: url, options: .atomic)
        return url
    }

    /// "iPhone15,2": which chip it was matters more than the owner's name for it.
    private static var machine: String {
        if let simulated = ProcessInfo.processInfo.environment["SIMULATOR_MODEL_IDENTIFIER"] { return "\(simulated) (simulator)" }
        var information = utsname()
        uname(&information)
        return withUnsafeBytes(of: &information.machine) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}
