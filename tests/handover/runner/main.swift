// Runs the parts of the app that need no Apple framework: a list of questions as JSON in, the answers as JSON out.

import Foundation

struct Question: Decodable {
    let ask: String
    let picture: Plan.Picture?
    let width: Int?
    let height: Int?
    let bytes: Int?
    let exif: Int?
    let pixels: Data?
    let values: String?
    let boxes: Plan.Boxes?
    let outputs: [String: String]?
    let labels: [String]?
    let named: [String: Float]?
    let expected: String?
    let export: Exported?
}

struct Exported: Decodable {
    let model: String
    let fingerprint: String
    let labels: [String]
    let name: String
    let machine: String
    let system: String
    let runs: [Processed]
}

struct Processed: Decodable {
    let processor: String
    let milliseconds: Double
    let scores: [String: String]
}

func answer(_ question: Question) throws -> [String: String] {
    let values = question.values.flatMap(Floats.decode) ?? []
    switch question.ask {
    case "fit":
        let stored = Stored(width: question.width!, height: question.height!, bytes: question.bytes!, pixels: [UInt8](question.pixels!))
        let start = Date()
        let seen = question.picture!.fit(stored.upright(exif: question.exif!))
        let seconds = Date().timeIntervalSince(start)
        return ["seen": Data(seen.pixels).base64EncodedString(), "numbers": Floats.encode(question.picture!.numbers(seen)),
                "size": "\(seen.width)x\(seen.height)", "seconds": "\(seconds)"]
    case "half":
        return ["floats": Floats.encode((0...UInt16.max).map(Half.float)), "bits": Floats.encode(values.map { Float(Half.bits($0)) })]
    case "softmax":
        return ["scores": Floats.encode(Floats.softmax(values))]
    case "planes":
        let seen = Planes.picture(values, shape: [1, values.count / 4, 2, 2])
        return ["seen": seen.map { Data($0.pixels).base64EncodedString() } ?? "nothing"]
    case "boxes":
        let outputs = question.outputs!.compactMapValues(Floats.decode)
        let found = question.boxes!.read(outputs, width: question.width!, height: question.height!)
        return ["boxes": Floats.encode(found.flatMap { [$0.left, $0.top, $0.right, $0.bottom, Float($0.index), $0.score] })]
    case "classes":
        let classes = Classes(question.labels!)
        let expected = question.expected.flatMap(Floats.decode)
        let logits = classes.scores({ question.named![$0] }, expected: expected, nothing: -.infinity)
        return ["scores": Floats.encode(classes.scores({ question.named![$0] }, expected: expected)),
                "softmax": Floats.encode(Floats.softmax(logits)),
                "telling": Floats.encode(classes.telling(expected ?? [], whole: false)),
                "whole": Floats.encode(classes.telling(expected ?? [], whole: true))]
    case "difference":
        var difference = Difference()
        let fits = difference.add(values, expected: question.expected.flatMap(Floats.decode) ?? [])
        return ["fits": "\(fits)", "typical": "\(difference.typical)", "largest": "\(difference.largest)"]
    case "export":
        let given = question.export!
        let export = Export(model: given.model, fingerprint: given.fingerprint, labels: given.labels,
                            device: .init(name: given.name, machine: given.machine, system: given.system),
                            runs: given.runs.map { .init(processor: $0.processor, milliseconds: $0.milliseconds, scores: $0.scores) })
        return ["document": String(decoding: try export.document(), as: UTF8.self)]
    case "plan":
        let plan = try JSONDecoder().decode(Plan.self, from: question.pixels!)
        return ["title": plan.title, "samples": "\(plan.samples.count)", "labels": plan.labels.joined(separator: "\n")]
    default:
        throw Failure("nobody knows \(question.ask)")
    }
}

let questions = try JSONDecoder().decode([Question].self, from: Data(contentsOf: URL(fileURLWithPath: CommandLine.arguments[1])))
let answers = try JSONEncoder().encode(questions.map(answer))
try answers.write(to: URL(fileURLWithPath: CommandLine.arguments[2]))
