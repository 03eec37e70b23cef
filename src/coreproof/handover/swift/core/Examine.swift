// Examine: a sample on a processor, held against what coreproof answered; the app's screen and the tests ask alike.

import Foundation

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

/// All samples on one kind of processor.
struct ProcessorResult: Identifiable, Sendable {
    let processor: String
    let milliseconds: Double
    let outcomes: [Outcome]
    var id: String { processor }

    var agreeing: Int { outcomes.filter { $0.sameClass == true }.count }
    var largest: Float { outcomes.map(\.difference.largest).max() ?? 0 }
    var typical: Double { outcomes.map(\.difference.typical).max() ?? 0 }
    var troubles: [String] { outcomes.filter { !$0.trouble.isEmpty }.map { "\($0.sample): \($0.trouble)" } }
}

extension Plan {
    /// Every sample on one kind of processor; ``report`` is told how many are done.
    func examine(on processor: Processor, report: @Sendable (Int) async -> Void = { _ in }) async throws -> ProcessorResult {
        guard let first = samples.first else { throw Failure("There are no samples.") }
        let predictor = try await Predictor(self, processor.units)
        var outcomes: [Outcome] = []
        for sample in samples {
            outcomes.append(try await predictor.examine(sample))
            await report(outcomes.count)
        }
        let milliseconds = try await predictor.milliseconds(first)
        return ProcessorResult(processor: processor.rawValue, milliseconds: milliseconds, outcomes: outcomes)
    }
}
